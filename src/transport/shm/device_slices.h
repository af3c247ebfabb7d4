// The slices of one run that drivers of devices copy, all at once: between memory on devices here
// and there, or with host memory at one end, which is this process's or was mapped here.
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

  // Takes a slice whose target's memory is on a device. kBusy: it waits for the link instead, and
  // `wait` was called. Another error is the slice's end: kInvalidArgument of the local memory,
  // kPermission of the target's, kUnavailable where it has to be staged.
  Status add(Slice& slice, const RangeKey& key, const std::function<void()>& wait);
  // Takes one whose local memory is on a device, and the target's in a file that is mapped here,
  // from `offset` on. The same errors.
  Status add_mapped(Slice& slice, std::shared_ptr<const Mapping> file, uint64_t offset);
  // Returns when nothing copies any more: how each slice ended, in the order in which they came.
  std::vector<Status> run();

 private:
  struct Piece {
    MemoryCopy copy;
    bool is_apart = false;  // from what comes before, also where it goes on there
  };
  // Of one slice, a piece for each block of the target, or for each window of its file.
  struct Copy {
    std::shared_ptr<const DeviceMemory> by;
    std::vector<Piece> pieces;
    std::vector<OpenBlocks::Found> blocks;
    std::shared_ptr<const Mapping> file;
    std::vector<std::shared_ptr<const void>> pins;

    void add(const Slice& slice, uint64_t at, std::byte* remote, uint64_t length,
             bool is_apart = false);
  };
  using Copies = std::span<const Copy>;

  Status find_device(const Slice& slice, const RangeKey& key, Link::Copier& copier);
  static Status copy_all(Copies copies);

  TransportHost& host_;
  Link& link_;
  std::shared_ptr<const DeviceMemory> any_device_;  // for host memory here
  std::vector<Copy> copies_;
};

}  // namespace te::shm
