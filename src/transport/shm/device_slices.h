// The slices of one run between memory on devices here and there: copied by the devices' drivers,
// all at once.
//
// One thread. It lasts no longer than the ranges are named in a hazard slot.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/batch.h"
#include "transport/shm/link.h"
#include "transport/transport.h"

namespace te::shm {

class DeviceSlices {
 public:
  DeviceSlices(TransportHost& host, Link& link) : host_(host), link_(link) {}

  // Takes the slice. kBusy: it waits for the link instead, and `wait` was called. Another error is
  // the slice's end: kInvalidArgument of the local memory, kPermission of the target's,
  // kUnavailable where it has to be staged.
  Status add(Slice& slice, const RangeKey& key, const std::function<void()>& wait);
  // Returns when nothing copies any more: how each slice ended, in the order in which they came.
  std::vector<Status> run();

 private:
  // Of one slice, a piece for each block of the target.
  struct Copy {
    std::shared_ptr<const DeviceMemory> local;
    std::vector<MemoryCopy> pieces;
    std::vector<OpenBlocks::Found> blocks;
  };
  using Copies = std::span<const Copy>;

  static Status copy_all(Copies copies);

  TransportHost& host_;
  Link& link_;
  std::vector<Copy> copies_;
};

}  // namespace te::shm
