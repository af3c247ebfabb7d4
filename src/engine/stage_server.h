// The target's side of staging: copies registered memory that no transport reaches to and from
// parts of host memory, which initiators lease, and reach over any transport.
//
// To the engine it is a transport that makes no paths: it gives out keys of buffers, and answers
// exchanges. A lease ends when its initiator closes it, or when others need the room and it was
// idle for 10 s; its memory is unregistered then, so nothing that was sent to it arrives later.
//
// Threads: any.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/options.h"
#include "core/access_table.h"
#include "core/stage_message.h"
#include "engine/memory.h"
#include "transport/transport.h"

namespace te {

class StageServer final : public Transport {
 public:
  static constexpr int64_t kIdleNs = 10'000'000'000;

  StageServer(const Config& config, Memory& memory, int64_t idle_ns = kIdleNs)
      : config_(config), memory_(memory), idle_ns_(idle_ns) {}

  std::string_view name() const override { return stage::kName; }
  Capabilities capabilities() const override;
  std::vector<DeviceLoad> loads() const override { return {}; }
  Result<Bytes> register_memory(const Buffer& buffer) override;
  void unregister_memory(const Buffer& buffer) override;
  std::vector<std::shared_ptr<Path>> make_paths(const Peer&, ByteView) override { return {}; }
  void warm_up(Path&) override {}
  void adopt(tls::Connection, const wire::Hello&, std::shared_ptr<void>) override {}
  Result<Bytes> accept(const Bytes& hello, Rights rights) override;
  void submit(SliceList) override {}
  void sweep(Path&) override {}
  void reset(Path&) override {}
  void stop() override {}

  // Of all leases.
  uint64_t leased_bytes() const { return leased_bytes_.load(); }

 private:
  // One part: its copies are made one after the other.
  struct Part {
    Mutex mutex{LockRank::kLeasePart};
    uint64_t last_sequence TE_GUARDED_BY(mutex) = 0;
    Status last_result TE_GUARDED_BY(mutex);
  };
  struct Lease {
    explicit Lease(uint32_t parts) : part(parts) {}

    SharedMutex mutex{LockRank::kLease};               // shared by copies
    std::byte* memory TE_GUARDED_BY(mutex) = nullptr;  // null: not there yet, or closed
    bool closed TE_GUARDED_BY(mutex) = false;
    std::vector<Part> part;
    uint64_t part_bytes = 0;
    std::atomic<int64_t> used_ns{0};

    uint64_t bytes() const { return part.size() * part_bytes; }
  };
  class Acquired;
  static constexpr size_t kClosedKept = 1024;
  using Leases = std::map<uint64_t, std::shared_ptr<Lease>>;

  Result<Bytes> open(const stage::Open& hello);
  Status copy(const stage::Copy& hello, Rights rights);
  Status copy_bytes(const stage::Copy& hello, const Lease& lease) const
      TE_REQUIRES_SHARED(lease.mutex);
  void close(uint64_t id);
  // The lease, which may be new; kBusy where there is no room.
  Result<std::shared_ptr<Lease>> find_or_add(const stage::Open& hello);
  bool end_an_idle_one(uint64_t bytes);
  void end(uint64_t id, Lease& lease);

  const Config& config_;
  Memory& memory_;
  const int64_t idle_ns_;
  mutable AccessTable table_;
  std::atomic<uint64_t> leased_bytes_{0};
  Mutex mutex_;
  Leases leases_ TE_GUARDED_BY(mutex_);
  std::deque<uint64_t> closed_ TE_GUARDED_BY(mutex_);  // the last ones
};

}  // namespace te
