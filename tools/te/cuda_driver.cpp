#include "cuda_driver.h"

#include <dlfcn.h>
#include <fmt/core.h>

namespace te::tool {
namespace {

constexpr const char* kName = "libcuda.so.1";

template <typename Function>
bool look_up(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

bool load(void* library, CudaDriver* driver) {
  return look_up(library, "cuInit", &driver->init) &&
         look_up(library, "cuDriverGetVersion", &driver->version) &&
         look_up(library, "cuDeviceGetCount", &driver->count) &&
         look_up(library, "cuDeviceGet", &driver->device) &&
         look_up(library, "cuDeviceGetName", &driver->name) &&
         look_up(library, "cuDeviceGetPCIBusId", &driver->pci) &&
         look_up(library, "cuDeviceTotalMem_v2", &driver->total_memory) &&
         look_up(library, "cuDeviceGetAttribute", &driver->attribute) &&
         look_up(library, "cuDevicePrimaryCtxRetain", &driver->retain) &&
         look_up(library, "cuDevicePrimaryCtxRelease_v2", &driver->release) &&
         look_up(library, "cuCtxPushCurrent_v2", &driver->push) &&
         look_up(library, "cuCtxPopCurrent_v2", &driver->pop) &&
         look_up(library, "cuMemAlloc_v2", &driver->allocate) &&
         look_up(library, "cuMemFree_v2", &driver->free) &&
         look_up(library, "cuMemcpyHtoD_v2", &driver->to_gpu) &&
         look_up(library, "cuMemcpyDtoH_v2", &driver->from_gpu);
}

}  // namespace

Result<CudaDriver> open_cuda_driver() {
  void* const library = dlopen(kName, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) return Status(Code::kUnsupported, fmt::format("{} is missing", kName));
  CudaDriver driver;
  if (!load(library, &driver)) {
    return Status(Code::kUnsupported, fmt::format("{} is not a driver of CUDA", kName));
  }
  if (const int error = driver.init(0); error != 0) {
    return Status(Code::kUnsupported,
                  fmt::format("the CUDA driver cannot be initialized: error {}", error));
  }
  return driver;
}

}  // namespace te::tool
