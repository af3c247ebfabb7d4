// One GPU, while memory of it is registered, or it copies host memory: its primary context, and two
// streams for copies.
//
// The context is current on a thread only during a call: nothing is left behind on threads of the
// application, and no context is made on another GPU.
//
// Threads: any.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "core/device_memory.h"
#include "platform/cuda/current_context.h"
#include "platform/cuda/library.h"
#include "platform/cuda/openings.h"

namespace te::cuda {

class Gpu : public std::enable_shared_from_this<Gpu> {
 public:
  enum class Direction { kFromGpu, kToGpu };

  // The same for all its holders. Retains the primary context; kResource where there is none.
  static Result<std::shared_ptr<Gpu>> hold(const Library& library, int ordinal);
  // One that is held already, or that the application uses: no context is made for it.
  // kUnsupported: there is none.
  static Result<std::shared_ptr<Gpu>> hold_any(const Library& library);
  // Whether hold_any() finds one.
  static bool any_in_use(const Library& library);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  // See DeviceMemory::pci_address().
  std::string pci_address() const;
  // See DeviceMemory::start(). Those of one direction are done one after the other.
  Result<std::unique_ptr<PendingCopies>> start(std::span<const MemoryCopy> copies,
                                               Direction direction);
  // Synchronous copies and fills of the application by the driver are over when they return, and
  // so are ordered before what the engine does next. Not possible for every kind of memory.
  void sync_memory_operations(DevicePtr allocation);
  // See DeviceMemory::export_range(). Whole pages.
  Result<ExportedRange> export_pages(DevicePtr begin, size_t length) const;
  // See DeviceMemory::export_block(): of the allocation, or of the chunk, that begins there.
  Result<IpcMemHandle> export_allocation(DevicePtr begin) const;
  Result<Fd> export_chunk(DevicePtr begin) const;
  Result<FabricHandle> export_fabric_chunk(DevicePtr begin) const;
  // What copies on this GPU reach of other processes.
  Openings& openings() { return openings_; }
  // See DeviceMemory::pin(). The answer is the GPU that pinned it, perhaps another one.
  std::shared_ptr<Gpu> pin(std::byte* host, size_t length);
  // What was pinned in that range, by whichever GPU.
  static void unpin(std::byte* begin, size_t length);

  class Current;
  // To mark a point in the work of other streams: a stream that follows them, and an event in it.
  struct Marker {
    Stream stream = nullptr;
    Event event = nullptr;
  };
  Result<Marker> take_marker();
  // `idle`: nothing is in its stream.
  void give_back(const Marker& marker, bool idle);

 private:
  class PooledEvent;
  class Pending;
  struct Pins;
  static Pins& pins();

  Gpu(const Library& library, Device device, Context context)
      : library_(library),
        device_(device),
        context_(context),
        openings_(library, device, context) {}
  Status create_streams();
  Status await(Event event, Stream stream) const;
  Status export_chunk_as(int type, DevicePtr begin, void* shareable) const;
  void unregister(std::byte* host) const;
  void destroy(const Marker& marker) const;

  const Library& library_;
  const Device device_;
  const Context context_;
  Openings openings_;
  Stream streams_[2]{};  // by Direction
  Mutex mutex_;
  std::vector<Event> events_ TE_GUARDED_BY(mutex_);    // unused
  std::vector<Marker> markers_ TE_GUARDED_BY(mutex_);  // likewise
};

// Its context on top of the calling thread's.
class Gpu::Current : public CurrentContext {
 public:
  explicit Current(const Gpu& gpu) : CurrentContext(gpu.library_, gpu.context_) {}
};

}  // namespace te::cuda
