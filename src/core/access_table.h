// Which ranges peers may touch, by key. A transport without keys of its own keeps one: each range
// has an index and 16 unguessable bytes, checked before every access, and a count of accesses under
// way, so that removing a range waits until nothing touches it.
//
// Threads: any.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "base/mutex.h"
#include "core/rights.h"
#include "transfer_engine/status.h"

namespace te {

// As it travels: 4 bytes of index, 16 of secret.
struct AccessKey {
  static constexpr size_t kSize = 20;

  uint32_t index = 0;
  std::array<uint8_t, 16> secret{};

  static AccessKey decode(const std::byte* from);
  void encode(std::byte* to) const;
};

class AccessTable {
 public:
  AccessTable() = default;
  AccessTable(const AccessTable&) = delete;
  AccessTable& operator=(const AccessTable&) = delete;

  // kBusy when there are too many ranges (2^24). When it throws nothing was changed; nothing else
  // throws.
  Result<AccessKey> add(uint64_t address, uint64_t length, Rights rights);
  // Refuses new accesses at once, then waits for those under way.
  void remove(const AccessKey& key);

  // On kOk the range is pinned until release(). kStale: no such key; kOutOfRange: it leaves the
  // range; kPermission: the range does not allow what is wanted.
  Code acquire(const AccessKey& key, uint64_t address, uint64_t length, Rights wanted);
  void release(const AccessKey& key);

 private:
  static constexpr uint32_t kChunkSize = 1024;
  static constexpr uint32_t kMaxChunks = 16'384;

  // Never freed while the table lives, so that a peer's index can be looked at without a lock.
  struct Entry {
    std::atomic<uint32_t> users{0};
    std::atomic<bool> live{false};
    std::atomic<bool> removing{false};
    std::array<uint8_t, 16> secret{};
    uint64_t address = 0;
    uint64_t length = 0;
    Rights rights = Rights::kNone;
  };
  struct Chunk {
    std::array<Entry, kChunkSize> entries;
  };

  Entry* entry(uint32_t index);
  void unpin(Entry& entry);

  Mutex mutex_;
  std::vector<uint32_t> free_ TE_GUARDED_BY(mutex_);
  uint32_t used_ TE_GUARDED_BY(mutex_) = 0;
  std::vector<std::unique_ptr<Chunk>> owned_ TE_GUARDED_BY(mutex_);
  std::unique_ptr<std::atomic<Chunk*>[]> chunks_ { new std::atomic<Chunk*>[kMaxChunks] {} };
};

}  // namespace te
