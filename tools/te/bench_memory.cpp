#include "bench_memory.h"

#include <fmt/core.h>

#include <charconv>
#include <utility>

#include "size_text.h"

namespace te::tool {
namespace {

constexpr std::string_view kCuda = "cuda:";

// The GPU of "cuda:N"; -1: it is not that.
int gpu_of(const std::string& location) {
  int number = -1;
  if (!location.starts_with(kCuda)) return -1;
  const char* const end = location.data() + location.size();
  const auto [stop, error] = std::from_chars(location.data() + kCuda.size(), end, number);
  return error == std::errc() && stop == end ? number : -1;
}

Status failed(const char* call, int error) {
  return Status(Code::kResource,
                fmt::format("{} failed: error {} of the CUDA driver", call, error));
}

}  // namespace

class BenchMemory::OnGpu {
 public:
  OnGpu(const CudaDriver& driver, int device, void* context)
      : driver_(driver), device_(device), context_(context) {}
  ~OnGpu() {
    if (at_ != 0) (void)in_context([this] { return driver_.free(at_); });
    (void)driver_.release(device_);
  }
  OnGpu(const OnGpu&) = delete;
  OnGpu& operator=(const OnGpu&) = delete;

  Status allocate(size_t bytes) {
    const int error = in_context([this, bytes] { return driver_.allocate(&at_, bytes); });
    if (error == 0) return {};
    at_ = 0;
    return failed("cuMemAlloc", error)
        .with_context(fmt::format("no memory of the GPU for a buffer of {}", size_text(bytes)));
  }
  std::byte* data() const { return reinterpret_cast<std::byte*>(at_); }
  Status put(size_t at, const std::byte* from, size_t length) const {
    const int error = in_context([&] { return driver_.to_gpu(at_ + at, from, length); });
    return error == 0 ? Status() : failed("cuMemcpyHtoD", error);
  }
  Status get(size_t at, std::byte* to, size_t length) const {
    const int error = in_context([&] { return driver_.from_gpu(to, at_ + at, length); });
    return error == 0 ? Status() : failed("cuMemcpyDtoH", error);
  }

 private:
  template <typename Work>
  int in_context(Work&& work) const {
    void* context = context_;
    if (const int error = driver_.push(context); error != 0) return error;
    const int error = work();
    (void)driver_.pop(&context);
    return error;
  }

  const CudaDriver driver_;
  const int device_;
  void* const context_;
  unsigned long long at_ = 0;
};

Result<BenchMemory> BenchMemory::allocate(const std::string& location, size_t bytes) {
  Result<MappedMemory> host = MappedMemory::allocate(bytes);
  if (!host.ok()) return host.status();
  BenchMemory memory;
  memory.host_ = host.take();
  const int gpu = gpu_of(location);
  if (gpu < 0) return memory;
  const Result<CudaDriver> driver = open_cuda_driver();
  if (!driver.ok()) return driver.status().with_context("--memory " + location);
  int device = 0;
  void* context = nullptr;
  if (const int error = driver->device(&device, gpu); error != 0) {
    return failed("cuDeviceGet", error).with_context("--memory " + location);
  }
  if (const int error = driver->retain(&context, device); error != 0) {
    return failed("cuDevicePrimaryCtxRetain", error).with_context("--memory " + location);
  }
  memory.gpu_ = std::make_shared<OnGpu>(*driver, device, context);
  TE_RETURN_IF_ERROR(memory.gpu_->allocate(bytes));
  return memory;
}

std::byte* BenchMemory::data() const { return gpu_ ? gpu_->data() : host_.data(); }

Status BenchMemory::put(size_t at, size_t length) const {
  return gpu_ ? gpu_->put(at, view() + at, length) : Status();
}

Status BenchMemory::get(size_t at, size_t length) const {
  return gpu_ ? gpu_->get(at, view() + at, length) : Status();
}

std::string check_memory(const std::string& location) {
  if (location == "cpu" || gpu_of(location) >= 0) return {};
  return fmt::format("'{}' is no memory: give 'cpu', or 'cuda:N' for GPU N", location);
}

}  // namespace te::tool
