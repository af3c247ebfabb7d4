// The CUDA driver, for commands that list GPUs or measure with their memory. Opening it initializes
// it. Threads: any.
#pragma once

#include <cstddef>

#include "transfer_engine/status.h"

namespace te::tool {

// Of its binary interface: success is 0.
struct CudaDriver {
  int (*init)(unsigned flags) = nullptr;
  int (*version)(int*) = nullptr;
  int (*count)(int*) = nullptr;
  int (*device)(int* device, int ordinal) = nullptr;
  int (*name)(char*, int length, int device) = nullptr;
  int (*pci)(char*, int length, int device) = nullptr;
  int (*total_memory)(size_t*, int device) = nullptr;
  int (*attribute)(int*, int which, int device) = nullptr;
  int (*retain)(void** context, int device) = nullptr;
  int (*release)(int device) = nullptr;
  int (*push)(void* context) = nullptr;
  int (*pop)(void** context) = nullptr;
  int (*allocate)(unsigned long long*, size_t) = nullptr;
  int (*free)(unsigned long long) = nullptr;
  int (*to_gpu)(unsigned long long to, const void* from, size_t) = nullptr;
  int (*from_gpu)(void* to, unsigned long long from, size_t) = nullptr;
};

// kUnsupported, with the reason.
Result<CudaDriver> open_cuda_driver();

}  // namespace te::tool
