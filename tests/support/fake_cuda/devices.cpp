// Initialization, GPUs and contexts, and what tests ask of the driver.
#include <pthread.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "support/fake_cuda/fake_cuda.h"
#include "support/fake_cuda/world.h"

namespace te::test::fake_cuda {
namespace {

// With the driver's functions, too: threads use both until the process ends.
thread_local std::vector<cuda::Context> contexts;

// A child is not born with the lock held by a thread that it does not have.
World* make_world() {
  auto* made = new World;
  ::pthread_atfork([] { world().mutex.lock(); }, [] { world().mutex.unlock(); },
                   [] { world().mutex.unlock(); });
  return made;
}

bool is_gpu(int number) { return number >= 0 && number < world().gpu_count; }

}  // namespace

World& world() {
  static World* const all = make_world();
  return *all;
}

CuResult begin_call(const char* function) {
  const uint64_t before = world().calls[function]++;
  const auto found = world().failures.find(function);
  if (found == world().failures.end()) return CuResult::kSuccess;
  if (found->second.after > 0) {
    --found->second.after;
    return CuResult::kSuccess;
  }
  (void)before;
  return found->second.result;
}

cuda::Context current_context() { return contexts.empty() ? nullptr : contexts.back(); }

void reset() {
  std::lock_guard lock(world().mutex);
  world().calls.clear();
  world().failures.clear();
  world().latency_us = 0;
  world().bytes_per_second = 0;
  world().first_shown = 0;
  world().sees_writes = true;
  const Counts before = world().counts;
  world().counts = {};
  world().counts.under_way = before.under_way;
  world().counts.busy = before.busy;
}

uint64_t calls(const char* function) {
  std::lock_guard lock(world().mutex);
  uint64_t sum = 0;
  for (const auto& [name, count] : world().calls) {
    if (function == nullptr || name == function) sum += count;
  }
  return sum;
}

void fail(const char* function, CuResult result, uint64_t after) {
  std::lock_guard lock(world().mutex);
  if (result == CuResult::kSuccess) {
    world().failures.erase(function);
  } else {
    world().failures[function] = {result, after};
  }
}

void slow_down(int64_t latency_us, uint64_t bytes_per_second) {
  std::lock_guard lock(world().mutex);
  world().latency_us = latency_us;
  world().bytes_per_second = bytes_per_second;
}

void show_from(int gpu_of_machine) {
  std::lock_guard lock(world().mutex);
  world().first_shown = gpu_of_machine;
}

void see_writes_of_nics(bool on) {
  std::lock_guard lock(world().mutex);
  world().sees_writes = on;
}

bool has_context(int gpu) { return context_holders(gpu) > 0; }
int context_holders(int gpu) {
  std::lock_guard lock(world().mutex);
  return world().gpus[gpu].holders;
}
int contexts_made(int gpu) {
  std::lock_guard lock(world().mutex);
  return world().gpus[gpu].made;
}

}  // namespace te::test::fake_cuda

extern "C" {

CUresult cuInit(unsigned flags) {
  FAKE_CUDA_CALL_BEFORE_INIT("cuInit");
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes it
  if (std::getenv("FAKE_CUDA_ABORT") != nullptr) {
    std::fputs("fake_cuda: cuInit was called\n", stderr);
    std::abort();
  }
  if (flags != 0) return CuResult::kInvalidValue;
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  if (const char* count = std::getenv("FAKE_CUDA_GPUS"); count != nullptr) {
    world().gpu_count = std::clamp(std::atoi(count), 0, kMostGpus);
  }
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  if (const char* function = std::getenv("FAKE_CUDA_FAIL"); function != nullptr) {
    world().failures[function] = {CuResult::kNotSupported, 0};
  }
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  if (std::getenv("FAKE_CUDA_UNORDERED") != nullptr) world().sees_writes = false;
  if (world().gpu_count == 0) return CuResult::kNoDevice;
  for (int i = 0; i < world().gpu_count; ++i) world().gpus[i].primary.gpu = i;
  world().initialized = true;
  return CuResult::kSuccess;
}

CUresult cuDriverGetVersion(int* version) {
  FAKE_CUDA_CALL_BEFORE_INIT("cuDriverGetVersion");
  *version = 12040;
  return CuResult::kSuccess;
}

CUresult cuGetErrorName(CUresult result, const char** name) {
  switch (result) {
    case CUresult::kInvalidValue:
      *name = "CUDA_ERROR_INVALID_VALUE";
      return CUresult::kSuccess;
    case CUresult::kOutOfMemory:
      *name = "CUDA_ERROR_OUT_OF_MEMORY";
      return CUresult::kSuccess;
    case CUresult::kInvalidContext:
      *name = "CUDA_ERROR_INVALID_CONTEXT";
      return CUresult::kSuccess;
    default:
      *name = nullptr;
      return CUresult::kInvalidValue;
  }
}

CUresult cuGetErrorString(CUresult result, const char** text) {
  return cuGetErrorName(result, text);
}

CUresult cuDeviceGetCount(int* count) {
  FAKE_CUDA_CALL("cuDeviceGetCount");
  *count = world().gpu_count;
  return CuResult::kSuccess;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  FAKE_CUDA_CALL("cuDeviceGet");
  if (!is_gpu(ordinal)) return CuResult::kInvalidDevice;
  *device = ordinal;
  return CuResult::kSuccess;
}

CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  FAKE_CUDA_CALL("cuDeviceGetName");
  if (!is_gpu(device)) return CuResult::kInvalidDevice;
  std::snprintf(name, static_cast<size_t>(length), "Fake GPU");
  return CuResult::kSuccess;
}

CUresult cuDeviceGetUuid(te::cuda::Uuid* uuid, CUdevice device) {
  FAKE_CUDA_CALL("cuDeviceGetUuid");
  if (!is_gpu(device)) return CuResult::kInvalidDevice;
  std::memset(uuid, 0xA0 + device, sizeof *uuid);
  return CuResult::kSuccess;
}

// Those of the recorded machine with eight GPUs.
CUresult cuDeviceGetPCIBusId(char* id, int length, CUdevice device) {
  constexpr int kBuses[] = {0x14, 0x24, 0x34, 0x44, 0x94, 0xA4, 0xB4, 0xC4};
  FAKE_CUDA_CALL("cuDeviceGetPCIBusId");
  const int on_machine = world().first_shown + device;
  if (!is_gpu(device) || on_machine >= kMostGpus) return CuResult::kInvalidDevice;
  std::snprintf(id, static_cast<size_t>(length), "0000:%02X:00.0", kBuses[on_machine]);
  return CuResult::kSuccess;
}

CUresult cuDeviceGetAttribute(int* value, te::cuda::DeviceAttribute attribute, CUdevice device) {
  FAKE_CUDA_CALL("cuDeviceGetAttribute");
  if (!is_gpu(device)) return CuResult::kInvalidDevice;
  switch (attribute) {
    case te::cuda::DeviceAttribute::kVirtualMemoryManagement:
    case te::cuda::DeviceAttribute::kGpuDirectRdma:
      *value = 1;
      return CuResult::kSuccess;
    case te::cuda::DeviceAttribute::kDmaBuf:
      // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes it
      *value = std::getenv("FAKE_CUDA_NO_DMABUF") == nullptr ? 1 : 0;
      return CuResult::kSuccess;
    case te::cuda::DeviceAttribute::kGpuDirectRdmaWritesOrdering:
      *value = world().sees_writes ? 100 : 0;  // to the owner, or to nobody
      return CuResult::kSuccess;
    default:
      *value = 0;
      return CuResult::kSuccess;
  }
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  FAKE_CUDA_CALL("cuDeviceTotalMem");
  if (!is_gpu(device)) return CuResult::kInvalidDevice;
  *bytes = size_t{16} << 30;
  return CuResult::kSuccess;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  FAKE_CUDA_CALL("cuDevicePrimaryCtxRetain");
  if (!is_gpu(device)) return CuResult::kInvalidDevice;
  Gpu& gpu = world().gpus[device];
  if (gpu.holders++ == 0) ++gpu.made;
  *context = &gpu.primary;
  return CuResult::kSuccess;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  FAKE_CUDA_CALL("cuDevicePrimaryCtxRelease");
  if (!is_gpu(device)) return CuResult::kInvalidDevice;
  Gpu& gpu = world().gpus[device];
  if (gpu.holders == 0) return CuResult::kInvalidContext;
  if (--gpu.holders == 0) free_memory_of(device);
  return CuResult::kSuccess;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
  FAKE_CUDA_CALL("cuDevicePrimaryCtxGetState");
  if (!is_gpu(device)) return CuResult::kInvalidDevice;
  *flags = 0;
  *active = world().gpus[device].holders > 0 ? 1 : 0;
  return CuResult::kSuccess;
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  FAKE_CUDA_CALL("cuCtxPushCurrent");
  if (context == nullptr || world().gpus[context->gpu].holders == 0) {
    return CuResult::kInvalidContext;
  }
  contexts.push_back(context);
  return CuResult::kSuccess;
}

CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  FAKE_CUDA_CALL("cuCtxPopCurrent");
  if (contexts.empty()) return CuResult::kInvalidContext;
  if (context != nullptr) *context = contexts.back();
  contexts.pop_back();
  return CuResult::kSuccess;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  FAKE_CUDA_CALL("cuCtxGetCurrent");
  *context = current_context();
  return CuResult::kSuccess;
}

}  // extern "C"
