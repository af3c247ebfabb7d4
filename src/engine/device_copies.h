// Copies between host memory and memory that the processor does not reach, of one part of staging.
// Those of one device that follow each other are begun together.
//
// Threads: one.
#pragma once

#include <memory>
#include <vector>

#include "core/device_memory.h"

namespace te {

class DeviceCopies {
 public:
  // Before start().
  void add(const std::shared_ptr<const DeviceMemory>& device, const MemoryCopy& copy) {
    if (runs_.empty() || runs_.back().device != device) runs_.push_back({device, {}, nullptr});
    add_copy(runs_.back().copies, copy);
  }
  // Of the first copy.
  const DeviceMemory& device() const { return *runs_.front().device; }

  // After an error some may be under way, so wait() comes in any case.
  Status start() {
    for (Run& run : runs_) {
      Result<std::unique_ptr<PendingCopies>> pending = run.device->start(run.copies);
      if (!pending.ok()) return pending.status();
      run.pending = pending.take();
    }
    return {};
  }
  // Until nothing copies any more; the first error.
  Status wait() {
    Status first;
    for (Run& run : runs_) {
      if (run.pending == nullptr) continue;
      const Status ended = run.pending->wait();
      if (first.ok()) first = ended;
    }
    runs_.clear();
    return first;
  }

 private:
  struct Run {
    std::shared_ptr<const DeviceMemory> device;
    std::vector<MemoryCopy> copies;
    std::unique_ptr<PendingCopies> pending;
  };
  std::vector<Run> runs_;
};

}  // namespace te
