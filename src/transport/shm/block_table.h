// The target's side of memory on devices: the blocks (see DeviceMemory) that registered ranges lie
// in, each with an entry of its own in the table of ranges, for as long as a range lies in it. The
// entry allows no access; by it initiators see that a block that they opened is still the same.
//
// Threads: any.
#pragma once

#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "transport/shm/range_table.h"

namespace te::shm {

class BlockTable {
 public:
  explicit BlockTable(RangeTable& ranges) : ranges_(ranges) {}

  // A buffer on a device. kUnsupported, with the reason: others cannot open it; kBusy: the table of
  // ranges is full.
  Result<RangeKey> add(const Buffer& buffer);
  // Refuses accesses from here on. True: blocks went with it, which initiators may have open.
  bool remove(const RangeKey& key);

  struct Found {
    RangeKey key;  // of the block
    MemoryBlock block;
    std::shared_ptr<const DeviceMemory> memory;
  };
  // The block that holds the address of the range. kStale, kOutOfRange.
  Result<Found> find(uint32_t index, uint64_t generation, uint64_t address);

 private:
  using Place = std::pair<uint64_t, uint64_t>;  // of a block: where it begins, and its id
  struct Used {
    RangeKey key;
    size_t ranges = 0;  // that lie in it
  };
  struct Range {
    uint64_t generation = 0;
    uint64_t begin = 0;
    uint64_t length = 0;
    std::shared_ptr<const DeviceMemory> memory;
    std::vector<MemoryBlock> blocks;
  };
  class Adding;

  static Place place_of(const MemoryBlock& block) { return {block.begin, block.id}; }
  Status use(const MemoryBlock& block) TE_REQUIRES(mutex_);
  bool leave(const MemoryBlock& block) TE_REQUIRES(mutex_);

  RangeTable& ranges_;
  Mutex mutex_{LockRank::kRegions};
  std::unordered_map<uint32_t, Range> by_index_ TE_GUARDED_BY(mutex_);
  std::map<Place, Used> blocks_ TE_GUARDED_BY(mutex_);
};

}  // namespace te::shm
