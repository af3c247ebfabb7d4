// Memory of the GPUs of fake_cuda, as an application has it: the application holds the primary
// context of the GPU meanwhile, and has none current afterwards.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "support/fake_cuda/driver.h"
#include "support/fake_cuda/fake_cuda.h"

namespace te::test {

class GpuMemory {
 public:
  static constexpr size_t kChunk = 2 << 20;
  enum class Kind {
    kWhole,    // cuMemAlloc
    kChunks,   // addresses with a chunk of memory behind every 2 MiB
    kManaged,  // cuMemAllocManaged
    kPool,     // cuMemAllocAsync
    kFabric,   // as kChunks, with fabric handles and without descriptors
  };

  GpuMemory(int gpu, size_t length, Kind kind = Kind::kWhole)
      : gpu_(gpu), length_(length), kind_(kind) {
    succeed(cuInit(0));
    CUcontext context = nullptr;
    succeed(cuDevicePrimaryCtxRetain(&context, gpu));
    allocate();
  }
  ~GpuMemory() {
    free();
    succeed(cuDevicePrimaryCtxRelease_v2(gpu_));
  }
  GpuMemory(const GpuMemory&) = delete;
  GpuMemory& operator=(const GpuMemory&) = delete;

  // For engines: to touch it is a fault.
  std::byte* data() const { return reinterpret_cast<std::byte*>(at_); }
  // The same bytes, for the test.
  std::byte* view() const { return fake_cuda::view(data()); }
  size_t size() const { return length_; }

  // Frees the memory, and allocates as much again, at the same address.
  void replace() {
    const CUdeviceptr before = at_;
    free();
    allocate();
    EXPECT_EQ(at_, before);
  }
  void free() {
    if (at_ == 0) return;
    in_context([this] {
      if (is_chunks()) {
        succeed(cuMemUnmap(at_, reserved()));
        succeed(cuMemAddressFree(at_, reserved()));
      } else {
        succeed(cuMemFree_v2(at_));
      }
    });
    at_ = 0;
  }

 private:
  static void succeed(CUresult result) { EXPECT_EQ(static_cast<int>(result), 0); }
  bool is_chunks() const { return kind_ == Kind::kChunks || kind_ == Kind::kFabric; }
  size_t reserved() const { return (length_ + kChunk - 1) / kChunk * kChunk; }

  template <typename Work>
  void in_context(Work&& work) {
    CUcontext context = nullptr;
    succeed(cuDevicePrimaryCtxRetain(&context, gpu_));
    succeed(cuCtxPushCurrent_v2(context));
    work();
    succeed(cuCtxPopCurrent_v2(&context));
    succeed(cuDevicePrimaryCtxRelease_v2(gpu_));
  }
  void allocate() {
    in_context([this] {
      if (kind_ == Kind::kWhole) succeed(cuMemAlloc_v2(&at_, length_));
      if (kind_ == Kind::kManaged) succeed(cuMemAllocManaged(&at_, length_, 1));
      if (kind_ == Kind::kPool) succeed(cuMemAllocAsync(&at_, length_, nullptr));
      if (is_chunks()) map_chunks();
    });
  }
  void map_chunks() {
    te::cuda::MemAllocationProp properties{};
    properties.type = te::cuda::kAllocationPinned;
    properties.requested_handle_types =
        kind_ == Kind::kFabric ? te::cuda::kHandleFabric : te::cuda::kHandlePosixFd;
    properties.location = {te::cuda::kLocationDevice, gpu_};
    const te::cuda::MemAccessDesc access{properties.location, te::cuda::kAccessReadWrite};
    succeed(cuMemAddressReserve(&at_, reserved(), 0, 0, 0));
    for (size_t begin = 0; begin < reserved(); begin += kChunk) {
      CUmemGenericAllocationHandle handle = 0;
      succeed(cuMemCreate(&handle, kChunk, &properties, 0));
      succeed(cuMemMap(at_ + begin, kChunk, 0, handle, 0));
      succeed(cuMemRelease(handle));
    }
    succeed(cuMemSetAccess(at_, reserved(), &access, 1));
  }

  const int gpu_;
  const size_t length_;
  const Kind kind_;
  CUdeviceptr at_ = 0;
};

}  // namespace te::test
