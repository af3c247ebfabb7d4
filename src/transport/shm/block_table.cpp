#include "transport/shm/block_table.h"

#include <algorithm>

namespace te::shm {

// Blocks that are used by a range that is not there yet; not any more unless it is kept. With the
// table's lock, which Clang does not recognize.
class BlockTable::Adding {
 public:
  Adding(BlockTable& table, const std::vector<MemoryBlock>& blocks)
      : table_(table), blocks_(blocks) {}
  ~Adding() TE_NO_THREAD_SAFETY_ANALYSIS {
    for (size_t i = 0; i < used_; ++i) (void)table_.leave(blocks_[i]);
  }
  Adding(const Adding&) = delete;
  Adding& operator=(const Adding&) = delete;

  Status use_all() TE_NO_THREAD_SAFETY_ANALYSIS {
    for (const MemoryBlock& block : blocks_) {
      TE_RETURN_IF_ERROR(table_.use(block));
      ++used_;
    }
    return {};
  }
  void keep() { used_ = 0; }

 private:
  BlockTable& table_;
  const std::vector<MemoryBlock>& blocks_;
  size_t used_ = 0;
};

Status BlockTable::use(const MemoryBlock& block) {
  const auto [found, fresh] = blocks_.try_emplace(place_of(block));
  if (fresh) {
    const Result<RangeKey> key =
        ranges_.add({block.begin, block.length, Rights::kNone, Way::kOpened, -1});
    if (!key.ok()) {
      blocks_.erase(found);
      return key.status();
    }
    found->second.key = *key;
  }
  ++found->second.ranges;
  return {};
}

bool BlockTable::leave(const MemoryBlock& block) {
  const auto found = blocks_.find(place_of(block));
  if (found == blocks_.end() || --found->second.ranges > 0) return false;
  // Nobody names a block in a slot, so its index is free at once.
  (void)ranges_.remove(found->second.key);
  ranges_.release(found->second.key);
  blocks_.erase(found);
  return true;
}

Result<RangeKey> BlockTable::add(const Buffer& buffer) {
  Result<std::vector<MemoryBlock>> blocks = buffer.device->blocks();
  if (!blocks.ok()) return blocks.status();
  // What takes memory comes first.
  std::unordered_map<uint32_t, Range> one;
  Range& range =
      one.try_emplace(0, Range{0, buffer.address, buffer.length, buffer.device, blocks.take()})
          .first->second;
  MutexLock lock(mutex_);
  by_index_.reserve(by_index_.size() + 1);
  Adding adding(*this, range.blocks);
  TE_RETURN_IF_ERROR(adding.use_all());
  const Result<RangeKey> key =
      ranges_.add({buffer.address, buffer.length, buffer.remote, Way::kOpened, -1});
  if (!key.ok()) return key.status();
  adding.keep();
  range.generation = key->generation;
  auto node = one.extract(one.begin());
  node.key() = key->index;
  by_index_.insert(std::move(node));
  return key;
}

bool BlockTable::remove(const RangeKey& key) {
  Range range;  // its memory ends without the lock
  MutexLock lock(mutex_);
  const auto found = by_index_.find(key.index);
  if (found == by_index_.end() || found->second.generation != key.generation) return false;
  (void)ranges_.remove(key);
  range = std::move(found->second);
  by_index_.erase(found);
  bool any = false;
  for (const MemoryBlock& block : range.blocks) any = leave(block) || any;
  return any;
}

Result<BlockTable::Found> BlockTable::find(uint32_t index, uint64_t generation, uint64_t address) {
  MutexLock lock(mutex_);
  const auto found = by_index_.find(index);
  if (found == by_index_.end() || found->second.generation != generation) {
    return Status(Code::kStale, "no such range");
  }
  const Range& range = found->second;
  if (address - range.begin >= range.length) {
    return Status(Code::kOutOfRange, "the address is not in the range");
  }
  const auto block =
      std::upper_bound(range.blocks.begin(), range.blocks.end(), address,
                       [](uint64_t at, const MemoryBlock& each) { return at < each.end(); });
  return Found{blocks_.at(place_of(*block)).key, *block, range.memory};
}

}  // namespace te::shm
