// Memory of other processes that one GPU has open. A handle is opened once, however many ask for
// it: a second opening would be an error of the driver.
//
// Threads: any. Calls take as long as the driver does, milliseconds.
#pragma once

#include <map>

#include "base/mutex.h"
#include "platform/cuda/library.h"

namespace te::cuda {

class Openings {
 public:
  Openings(const Library& library, Device device, Context context)
      : library_(library), device_(device), context_(context) {}
  // After close_all().
  ~Openings() = default;
  Openings(const Openings&) = delete;
  Openings& operator=(const Openings&) = delete;

  // An allocation: where it begins here. Each answer is given to close().
  Result<DevicePtr> open(const IpcMemHandle& handle);
  // A chunk of that length, which the descriptor stands for; it stays the caller's.
  Result<DevicePtr> map(int descriptor, size_t length);
  Result<DevicePtr> map(const FabricHandle& handle, size_t length);
  void close(DevicePtr begin);
  // Nothing is copied there any more.
  void close_all();

 private:
  struct Opening {
    size_t chunk_length = 0;  // 0: of an allocation
    IpcMemHandle handle{};
    int users = 1;
  };

  Result<DevicePtr> map_shareable(void* shareable, int type, size_t length);
  Result<DevicePtr> map_at_any(AllocationHandle chunk, size_t length) const;
  void close_one(DevicePtr begin, const Opening& opening) const;

  const Library& library_;
  const Device device_;
  const Context context_;
  Mutex mutex_;
  std::map<DevicePtr, Opening> openings_ TE_GUARDED_BY(mutex_);
};

}  // namespace te::cuda
