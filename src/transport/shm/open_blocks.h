// The initiator's side of memory on devices: the blocks of a target that this process has open, and
// those that it cannot open. Each block is opened once for each GPU here that copies it.
//
// Not thread-safe: the link's lock protects it. What it drops is closed by whoever has the answer,
// without the lock, because drivers take their time.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "transport/shm/range_table.h"

namespace te::shm {

class OpenBlocks {
 public:
  static constexpr size_t kMost = 1 << 16;

  // A block that is open: copies may use `opened` from its beginning on, for `length` bytes.
  struct Block {
    std::shared_ptr<const OpenedBlock> opened;
    uint64_t begin = 0;  // in the target
    uint64_t length = 0;
    RangeKey key{};  // its entry in the target's table
  };
  struct Found {
    Block block;
    std::shared_ptr<const void> use;  // see OpenedBlock::use()
  };
  using Dropped = std::vector<std::shared_ptr<const OpenedBlock>>;

  explicit OpenBlocks(const RangeView& ranges) : ranges_(ranges) {}

  // The block that holds the address, for this copier; nothing: it is not open.
  std::optional<Found> find(const void* copier, uint64_t address) const;
  // kResource when there are too many. What was there for the same copier is dropped.
  Status add(const void* copier, Block block, Dropped& dropped);
  // What the memory here is that a block is copied from or to. A device that copies host memory is
  // any one, so what it cannot open another one may; not the other way round, since what is staged
  // here must not be staged again on its way.
  enum class Local : uint8_t { kDevice, kHost };
  // Nothing of this range of addresses can be opened, for as long as the entry `key` is there.
  void refuse(Local local, uint64_t begin, uint64_t length, const RangeKey& key, Status why);
  // Why some of these addresses cannot be opened, as far as is known.
  Status refusal(Local local, uint64_t begin, uint64_t length) const;
  // Those that are not in the target's table any more.
  Dropped drop_outdated();
  Dropped drop_all();

 private:
  using Place = std::pair<const void*, uint64_t>;  // copier, and where the block begins
  struct Refused {
    Local local = Local::kDevice;
    uint64_t length = 0;
    RangeKey key{};
    Status why;
  };

  bool is_current(const RangeKey& key) const { return ranges_.find(key) != nullptr; }

  const RangeView& ranges_;
  std::map<Place, Block> blocks_;
  std::map<uint64_t, Refused> refused_;  // by where they begin
};

}  // namespace te::shm
