// One way to one peer: a transport, a device here, a device there. Made by the transport, held by
// what is known of the peer; outlives every slice posted on it.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "base/mutex.h"
#include "core/memory_kind.h"
#include "transfer_engine/status.h"

namespace te {

class Transport;

enum class PathState : uint8_t { kIdle, kConnecting, kReady, kFailed };

class Path {
 public:
  Path(Transport& owner, std::string local, std::string remote, std::string remote_address_text)
      : transport(owner),
        local_device(std::move(local)),
        remote_device(std::move(remote)),
        remote_address(std::move(remote_address_text)) {}
  virtual ~Path() = default;
  Path(const Path&) = delete;
  Path& operator=(const Path&) = delete;

  Transport& transport;
  const std::string local_device;
  const std::string remote_device;
  const std::string remote_address;  // for people
  Reach reach;                       // of its transport; set before anything is posted

  // Whether a buffer with this key can be touched this way; where not, another way is taken if
  // there is one.
  virtual bool reaches(const std::byte* key) const {
    (void)key;
    return true;
  }
  // Whether bytes go this way between local memory of one kind, which begins at `at`, and a buffer
  // of another kind. Asked where one of the two is not in host memory. `key`: of the buffer; null:
  // of any that the target's engine allocated.
  virtual bool moves(MemoryKind local, const void* at, MemoryKind remote,
                     const std::byte* key) const {
    (void)at;
    (void)key;
    return reach.covers(local, remote);
  }
  // Sees to what the first transfer to a buffer with this key would have to, by `until_ns` (as
  // base/clock.h counts) or not at all. May block.
  virtual void prepare(const std::byte* key, int64_t until_ns) {
    (void)key;
    (void)until_ns;
  }
  // It will carry nothing any more: a new one has to be made.
  virtual bool over() const { return false; }

  std::atomic<PathState> state{PathState::kIdle};
  // It failed, and whoever owns it is seeing to it: anything else is better meanwhile.
  std::atomic<bool> resting{false};
  std::atomic<uint64_t> inflight_bytes{0};
  std::atomic<uint64_t> completed_bytes{0};
  std::atomic<uint64_t> staged_bytes{0};  // of them
  std::atomic<uint64_t> completed_slices{0};
  std::atomic<uint64_t> failed_slices{0};

  // Why slices failed last; set by the transport before it returns them.
  void set_error(Status status) {
    MutexLock lock(mutex_);
    error_ = std::move(status);
  }
  Status last_error() const {
    MutexLock lock(mutex_);
    return error_;
  }

 private:
  mutable Mutex mutex_;
  Status error_ TE_GUARDED_BY(mutex_);
};

}  // namespace te
