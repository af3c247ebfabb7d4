#include "platform/cuda/gpu.h"

#include <map>

#include "base/clock.h"
#include "base/log.h"

namespace te::cuda {
namespace {

// A copy of 1 MiB takes about 50 us, and waking a thread that sleeps until its end as long.
constexpr int64_t kSpinNs = 100'000;

struct Held {
  Mutex mutex;
  std::map<int, std::weak_ptr<Gpu>> gpus TE_GUARDED_BY(mutex);
};

// Never destroyed: engines may be there until the process ends.
Held& held() {
  static Held& all = *new Held;
  return all;
}

std::shared_ptr<Gpu> first_held() {
  MutexLock lock(held().mutex);
  for (const auto& [ordinal, known] : held().gpus) {
    if (std::shared_ptr<Gpu> gpu = known.lock()) return gpu;
  }
  return nullptr;
}

// Whose primary context the application uses; -1: of none.
int first_active(const Library& library) {
  int count = 0;
  if (library.device_get_count(&count) != CuResult::kSuccess) return -1;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    Device device = 0;
    unsigned flags = 0;
    int active = 0;
    const bool known = library.device_get(&device, ordinal) == CuResult::kSuccess &&
                       library.primary_context_state(device, &flags, &active) == CuResult::kSuccess;
    if (known && active != 0) return ordinal;
  }
  return -1;
}

}  // namespace

// Host memory that is pinned, by which GPU. One pins it for all.
struct Gpu::Pins {
  struct Pin {
    Gpu* gpu = nullptr;
    std::weak_ptr<Gpu> alive;  // expired: `gpu` ends, and waits for the lock to unpin it
  };
  Mutex mutex;
  std::map<std::byte*, Pin> ranges TE_GUARDED_BY(mutex);
};

Gpu::Pins& Gpu::pins() {
  static Pins& all = *new Pins;
  return all;
}

Result<std::shared_ptr<Gpu>> Gpu::hold(const Library& library, int ordinal) {
  std::shared_ptr<Gpu> gpu;  // if it fails, it ends after the lock is released
  MutexLock lock(held().mutex);
  std::weak_ptr<Gpu>& known = held().gpus[ordinal];
  gpu = known.lock();
  if (gpu) return gpu;
  Device device = 0;
  CuResult result = library.device_get(&device, ordinal);
  if (result != CuResult::kSuccess) return library.failed("cuDeviceGet", result);
  Context context = nullptr;
  result = library.primary_context_retain(&context, device);
  if (result != CuResult::kSuccess) {
    return library.failed("cuDevicePrimaryCtxRetain", result, Code::kResource);
  }
  gpu.reset(new Gpu(library, device, context));
  TE_RETURN_IF_ERROR(gpu->create_streams());
  known = gpu;
  return gpu;
}

Result<std::shared_ptr<Gpu>> Gpu::hold_any(const Library& library) {
  if (std::shared_ptr<Gpu> gpu = first_held()) return gpu;
  if (const int ordinal = first_active(library); ordinal >= 0) return hold(library, ordinal);
  return Status(Code::kUnsupported,
                "no GPU has a primary context in this process: register memory of a GPU first, or "
                "use the primary context, as CUDA's runtime does");
}

bool Gpu::any_in_use(const Library& library) {
  return first_held() != nullptr || first_active(library) >= 0;
}

Result<Gpu::Marker> Gpu::take_marker() {
  {
    MutexLock lock(mutex_);
    if (!markers_.empty()) {
      const Marker marker = markers_.back();
      markers_.pop_back();
      return marker;
    }
  }
  const Current current(*this);
  TE_RETURN_IF_ERROR(current.status());
  Marker marker;
  CuResult result = library_.streams.create(&marker.stream, kStreamNonBlocking);
  if (result != CuResult::kSuccess) {
    return library_.failed("cuStreamCreate", result, Code::kResource);
  }
  result = library_.events.create(&marker.event, kEventDisableTiming);
  if (result == CuResult::kSuccess) return marker;
  (void)library_.streams.destroy(marker.stream);
  return library_.failed("cuEventCreate", result, Code::kResource);
}

void Gpu::give_back(const Marker& marker, bool idle) {
  if (idle) {
    MutexLock lock(mutex_);
    markers_.push_back(marker);
    return;
  }
  const Current current(*this);
  destroy(marker);
}

// The driver keeps what is under way until it has ended.
void Gpu::destroy(const Marker& marker) const {
  (void)library_.events.destroy(marker.event);
  (void)library_.streams.destroy(marker.stream);
}

// They do not wait for the application's streams, nor those for them.
Status Gpu::create_streams() {
  const Current current(*this);
  TE_RETURN_IF_ERROR(current.status());
  for (Stream& stream : streams_) {
    const CuResult result = library_.streams.create(&stream, kStreamNonBlocking);
    if (result != CuResult::kSuccess) {
      stream = nullptr;
      return library_.failed("cuStreamCreate", result, Code::kResource);
    }
  }
  return {};
}

// Nothing is under way any more: each copy has a holder.
Gpu::~Gpu() {
  openings_.close_all();
  {
    const Current current(*this);
    MutexLock lock(pins().mutex);
    for (auto each = pins().ranges.begin(); each != pins().ranges.end();) {
      if (each->second.gpu != this) {
        ++each;
        continue;
      }
      (void)library_.host.remove(each->first);
      each = pins().ranges.erase(each);
    }
  }
  {
    const Current current(*this);
    MutexLock lock(mutex_);
    for (const Event event : events_) (void)library_.events.destroy(event);
    for (const Marker& marker : markers_) destroy(marker);
    for (const Stream stream : streams_) {
      if (stream != nullptr) (void)library_.streams.destroy(stream);
    }
  }
  (void)library_.primary_context_release(device_);
}

// An event for one use. Null: none could be made.
class Gpu::PooledEvent {
 public:
  explicit PooledEvent(Gpu& gpu) : gpu_(gpu) {
    {
      MutexLock lock(gpu_.mutex_);
      if (!gpu_.events_.empty()) {
        event_ = gpu_.events_.back();
        gpu_.events_.pop_back();
        return;
      }
    }
    const CuResult result =
        gpu_.library_.events.create(&event_, kEventBlockingSync | kEventDisableTiming);
    if (result != CuResult::kSuccess) event_ = nullptr;
  }
  ~PooledEvent() {
    if (event_ == nullptr) return;
    MutexLock lock(gpu_.mutex_);
    gpu_.events_.push_back(event_);
  }
  PooledEvent(const PooledEvent&) = delete;
  PooledEvent& operator=(const PooledEvent&) = delete;

  Event get() const { return event_; }

 private:
  Gpu& gpu_;
  Event event_ = nullptr;
};

class Gpu::Pending final : public PendingCopies {
 public:
  Pending(Gpu& gpu, Stream stream) : gpu_(gpu), stream_(stream), event_(gpu) {}
  ~Pending() override {
    if (!waited_) (void)wait();
  }

  // After the last copy. `failure`: of one, which is reported at the end of those before it.
  void all_started(Status failure) {
    failure_ = std::move(failure);
    recorded_ = event_.get() != nullptr &&
                gpu_.library_.events.record(event_.get(), stream_) == CuResult::kSuccess;
  }
  Status wait() override {
    waited_ = true;
    const Current current(gpu_);
    TE_RETURN_IF_ERROR(current.status());
    const Status ended = gpu_.await(recorded_ ? event_.get() : nullptr, stream_);
    return failure_.ok() ? ended : failure_;
  }

 private:
  Gpu& gpu_;
  const Stream stream_;
  const PooledEvent event_;
  bool recorded_ = false;
  bool waited_ = false;
  Status failure_;
};

Result<std::unique_ptr<PendingCopies>> Gpu::start(std::span<const MemoryCopy> copies,
                                                  Direction direction) {
  const Current current(*this);
  TE_RETURN_IF_ERROR(current.status());
  const Stream stream = streams_[static_cast<size_t>(direction)];
  auto pending = std::make_unique<Pending>(*this, stream);
  Status failure;
  for (const MemoryCopy& each : copies) {
    const CuResult result =
        library_.memcpy_async(reinterpret_cast<DevicePtr>(each.to),
                              reinterpret_cast<DevicePtr>(each.from), each.length, stream);
    if (result == CuResult::kSuccess) continue;
    failure = library_.failed("cuMemcpyAsync", result, Code::kInvalidArgument);
    break;
  }
  pending->all_started(std::move(failure));
  return std::unique_ptr<PendingCopies>(std::move(pending));
}

// Until the event is over; null: until the stream is empty.
Status Gpu::await(Event event, Stream stream) const {
  if (event == nullptr) {
    const CuResult result = library_.streams.synchronize(stream);
    if (result == CuResult::kSuccess) return {};
    return library_.failed("cuStreamSynchronize", result, Code::kInvalidArgument);
  }
  const int64_t until = now_ns() + kSpinNs;
  CuResult result = CuResult::kNotReady;
  while (result == CuResult::kNotReady && now_ns() < until) result = library_.events.query(event);
  if (result == CuResult::kNotReady) result = library_.events.synchronize(event);
  if (result == CuResult::kSuccess) return {};
  return library_.failed("cuEventSynchronize", result, Code::kInvalidArgument);
}

std::string Gpu::pci_address() const {
  char id[32] = {};
  if (library_.device_get_pci_bus_id(id, sizeof id, device_) != CuResult::kSuccess) return {};
  std::string address(id);
  for (char& each : address) {
    if (each >= 'A' && each <= 'F') each = static_cast<char>(each - 'A' + 'a');
  }
  return address;
}

void Gpu::sync_memory_operations(DevicePtr allocation) {
  const Current current(*this);
  const unsigned on = 1;
  if (!current.status().ok()) return;
  (void)library_.pointer_set_attribute(&on, PointerAttribute::kSyncMemops, allocation);
}

Result<ExportedRange> Gpu::export_pages(DevicePtr begin, size_t length) const {
  const auto attribute = [this](DeviceAttribute which) {
    int value = 0;
    const CuResult result = library_.device_get_attribute(&value, which, device_);
    return result == CuResult::kSuccess ? value : 0;
  };
  if (attribute(DeviceAttribute::kGpuDirectRdmaWritesOrdering) < kOrderedForOwner) {
    return Status(Code::kUnsupported, "the GPU does not see writes of NICs without a flush");
  }
  if (library_.sharing.get_handle_for_range == nullptr ||
      attribute(DeviceAttribute::kDmaBuf) == 0) {
    return ExportedRange{Fd(), begin,
                         "the driver exports no dmabuf, which takes CUDA 11.7, Linux 5.12 and the "
                         "open kernel modules"};
  }
  const Current current(*this);
  TE_RETURN_IF_ERROR(current.status());
  int fd = -1;
  const CuResult result =
      library_.sharing.get_handle_for_range(&fd, begin, length, kRangeHandleDmaBuf, 0);
  if (result == CuResult::kSuccess) return ExportedRange{Fd(fd), begin, {}};
  const Status failed = library_.failed("cuMemGetHandleForAddressRange", result);
  return ExportedRange{Fd(), begin, failed.message()};
}

Result<IpcMemHandle> Gpu::export_allocation(DevicePtr begin) const {
  const Current current(*this);
  TE_RETURN_IF_ERROR(current.status());
  IpcMemHandle handle{};
  const CuResult result = library_.sharing.get_handle(&handle, begin);
  if (result == CuResult::kSuccess) return handle;
  return library_.failed("cuIpcGetMemHandle", result, Code::kUnsupported);
}

Status Gpu::export_chunk_as(int type, DevicePtr begin, void* shareable) const {
  const Current current(*this);
  TE_RETURN_IF_ERROR(current.status());
  AllocationHandle chunk = 0;
  CuResult result = library_.sharing.retain_chunk(&chunk, reinterpret_cast<void*>(begin));
  if (result != CuResult::kSuccess) {
    return library_.failed("cuMemRetainAllocationHandle", result, Code::kUnsupported);
  }
  result = library_.sharing.export_chunk(shareable, chunk, type, 0);
  (void)library_.sharing.release_chunk(chunk);
  if (result == CuResult::kSuccess) return {};
  return library_.failed("cuMemExportToShareableHandle", result, Code::kUnsupported);
}

Result<Fd> Gpu::export_chunk(DevicePtr begin) const {
  int fd = -1;
  TE_RETURN_IF_ERROR(export_chunk_as(kHandlePosixFd, begin, &fd));
  return Fd(fd);
}

Result<FabricHandle> Gpu::export_fabric_chunk(DevicePtr begin) const {
  FabricHandle handle{};
  const Status exported = export_chunk_as(kHandleFabric, begin, &handle);
  if (exported.ok()) return handle;
  return error(exported.code(),
               "{}: fabric handles take a channel of IMEX (nvidia-imex, /dev/nvidia-caps-imex-"
               "channels)",
               exported.message());
}

void Gpu::unregister(std::byte* host) const {
  const Current current(*this);
  const CuResult result = library_.host.remove(host);
  if (result == CuResult::kSuccess) return;
  log_warning("{}", library_.failed("cuMemHostUnregister", result).message());
}

std::shared_ptr<Gpu> Gpu::pin(std::byte* host, size_t length) {
  MutexLock lock(pins().mutex);
  const auto [pin, fresh] = pins().ranges.try_emplace(host);
  if (!fresh) {
    if (std::shared_ptr<Gpu> owner = pin->second.alive.lock()) return owner;
    pin->second.gpu->unregister(host);
  }
  pin->second = {this, weak_from_this()};
  const Current current(*this);
  const CuResult result = library_.host.add(host, length, kHostRegisterPortable);
  if (result == CuResult::kSuccess) return shared_from_this();
  pins().ranges.erase(pin);
  warn_once(
      fmt::format("copies of the memory of GPUs are slow, since host memory is not pinned: {}",
                  library_.failed("cuMemHostRegister", result).message()));
  return nullptr;
}

void Gpu::unpin(std::byte* begin, size_t length) {
  MutexLock lock(pins().mutex);
  auto each = pins().ranges.lower_bound(begin);
  while (each != pins().ranges.end() && each->first < begin + length) {
    each->second.gpu->unregister(each->first);
    each = pins().ranges.erase(each);
  }
}

}  // namespace te::cuda
