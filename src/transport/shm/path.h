// The way to the memory of one process of this host: copies, through a mapping, across memory, or
// by the driver of a device at either end.
//
// Threads: any; several may copy at once.
#pragma once

#include <memory>
#include <span>

#include "core/path.h"
#include "transport/copy_pool.h"
#include "transport/shm/device_slices.h"
#include "transport/shm/link.h"
#include "transport/shm/warned.h"

namespace te::shm {

class ShmPath final : public Path {
 public:
  ShmPath(Transport& owner, std::string address, TransportHost& host, CopyPool& pool,
          std::shared_ptr<Link> link, Warned& warned);
  ~ShmPath() override { link_->close(); }

  // The link tells from here on how it fares.
  Status watch();
  bool reaches(const std::byte* key) const override;
  bool moves(MemoryKind local, const void* at, MemoryKind remote,
             const std::byte* key) const override;
  bool over() const override { return state.load() == PathState::kFailed; }
  // Maps the buffer if it is to be mapped, with the pages that it has so far.
  void prepare(const std::byte* key, int64_t until_ns) override;
  // Of CopyPool: slices of this path and of one direction.
  void copy(Slice* run, CopyWay way);

 private:
  struct Part {
    Slice* slice;
    Code code;
    RangeKey key;
    const SharedRange* range;
  };
  using Parts = std::span<Part>;

  void check(Part& part) const;
  // False when the run waits for the mapping. Without one, `memory` is null, and the code may say
  // more.
  bool find_file(Part& part, std::shared_ptr<const Mapping>& memory);
  // The same.
  bool copy_mapped(Part& part, CopyWay way);
  void copy_across(Parts parts);
  // Whether a driver copies it.
  static bool is_on_device(const Part& part);
  // False when the run waits for the mapping, or for the device's memory to be opened.
  bool add_device_copy(Part& part, DeviceSlices& copies);
  Status add_mapped_copy(const Part& part, std::shared_ptr<const Mapping> memory,
                         DeviceSlices& copies) const;
  void copy_on_devices(DeviceSlices& copies, Parts parts);
  Code across(Opcode opcode, Slice* const* slices, size_t count, size_t* done) const;
  Code fault(const Slice& slice) const;
  void forbid_attach();
  void warn_of_unreached() const;
  void lost();

  TransportHost& host_;
  CopyPool& pool_;
  const std::shared_ptr<Link> link_;
  Warned& warned_;
  mutable std::atomic<bool> warns_{true};  // of memory that it does not reach
  std::atomic<uint64_t> used_slots_{0};
};

}  // namespace te::shm
