// What the driver of tests/support/fake_cuda refuses, so that the other tests can fail.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <vector>

#include "support/bytes.h"
#include "support/gpu_memory.h"

namespace te::test {
namespace {

using cuda::CuResult;

class FakeCuda : public testing::Test {
 protected:
  void SetUp() override {
    fake_cuda::reset();
    ASSERT_EQ(cuInit(0), CuResult::kSuccess);
    ASSERT_EQ(cuDevicePrimaryCtxRetain(&context_, 0), CuResult::kSuccess);
  }
  void TearDown() override {
    fake_cuda::reset();
    ASSERT_EQ(cuDevicePrimaryCtxRelease_v2(0), CuResult::kSuccess);
  }

  CUcontext context_ = nullptr;
};

TEST_F(FakeCuda, CallsWithoutAContextFail) {
  CUdeviceptr pointer = 0;
  CUstream stream = nullptr;
  EXPECT_EQ(cuMemAlloc_v2(&pointer, 4096), CuResult::kInvalidContext);
  EXPECT_EQ(cuStreamCreate(&stream, 0), CuResult::kInvalidContext);
  ASSERT_EQ(cuCtxPushCurrent_v2(context_), CuResult::kSuccess);
  ASSERT_EQ(cuStreamCreate(&stream, 0), CuResult::kSuccess);
  const GpuMemory memory(0, 4096);
  std::vector<std::byte> host(4096);
  const auto to = reinterpret_cast<CUdeviceptr>(host.data());
  const auto from = reinterpret_cast<CUdeviceptr>(memory.data());
  EXPECT_EQ(cuMemcpyAsync(to, from, 4096, stream), CuResult::kSuccess);
  CUcontext other = nullptr;
  ASSERT_EQ(cuDevicePrimaryCtxRetain(&other, 1), CuResult::kSuccess);
  ASSERT_EQ(cuCtxPushCurrent_v2(other), CuResult::kSuccess);
  EXPECT_EQ(cuMemcpyAsync(to, from, 4096, stream), CuResult::kInvalidHandle)
      << "a stream of another GPU's context was taken";
  ASSERT_EQ(cuCtxPopCurrent_v2(&other), CuResult::kSuccess);
  ASSERT_EQ(cuDevicePrimaryCtxRelease_v2(1), CuResult::kSuccess);
  ASSERT_EQ(cuStreamDestroy_v2(stream), CuResult::kSuccess);
  ASSERT_EQ(cuCtxPopCurrent_v2(&other), CuResult::kSuccess);
}

TEST_F(FakeCuda, WhatTouchesMemoryOfAGpuCrashes) {
  const GpuMemory memory(0, 4096);
  EXPECT_DEATH(std::memset(memory.data(), 0, 1), "");
  EXPECT_DEATH((void)*const_cast<volatile std::byte*>(memory.data()), "");
}

TEST_F(FakeCuda, CopiesAreOverWhenTheirEventIs) {
  const GpuMemory memory(0, 1 << 20);
  stamp(memory.view(), memory.size(), 1);
  ASSERT_EQ(cuCtxPushCurrent_v2(context_), CuResult::kSuccess);
  void* host = nullptr;
  CUstream stream = nullptr;
  CUevent event = nullptr;
  ASSERT_EQ(cuMemHostAlloc(&host, memory.size(), 0), CuResult::kSuccess);
  ASSERT_EQ(cuStreamCreate(&stream, 0), CuResult::kSuccess);
  ASSERT_EQ(cuEventCreate(&event, 0), CuResult::kSuccess);
  auto* const to = static_cast<std::byte*>(host);
  fake_cuda::slow_down(50'000, 0);
  ASSERT_EQ(cuMemcpyAsync(reinterpret_cast<CUdeviceptr>(to),
                          reinterpret_cast<CUdeviceptr>(memory.data()), memory.size(), stream),
            CuResult::kSuccess);
  ASSERT_EQ(cuEventRecord(event, stream), CuResult::kSuccess);
  EXPECT_EQ(cuEventQuery(event), CuResult::kNotReady);
  EXPECT_NE(difference(to, memory.size(), 1), kSame) << "the bytes are there at once";
  EXPECT_EQ(fake_cuda::copies_under_way(), 1);
  ASSERT_EQ(cuEventSynchronize(event), CuResult::kSuccess);
  EXPECT_EQ(difference(to, memory.size(), 1), kSame);
  // Of host memory that is not pinned, the call itself waits.
  std::vector<std::byte> pageable(memory.size());
  ASSERT_EQ(cuMemcpyAsync(reinterpret_cast<CUdeviceptr>(pageable.data()),
                          reinterpret_cast<CUdeviceptr>(memory.data()), memory.size(), stream),
            CuResult::kSuccess);
  EXPECT_EQ(difference(pageable.data(), memory.size(), 1), kSame);
  EXPECT_EQ(fake_cuda::pageable_copies(), 1u);
  ASSERT_EQ(cuEventDestroy_v2(event), CuResult::kSuccess);
  ASSERT_EQ(cuStreamDestroy_v2(stream), CuResult::kSuccess);
  ASSERT_EQ(cuMemFreeHost(host), CuResult::kSuccess);
  ASSERT_EQ(cuCtxPopCurrent_v2(&context_), CuResult::kSuccess);
}

TEST_F(FakeCuda, AnAddressThatIsUsedAgainHasAnotherId) {
  GpuMemory memory(0, 4096);
  const auto id = [&memory] {
    unsigned long long value = 0;
    void* data = &value;
    cuda::PointerAttribute attribute = cuda::PointerAttribute::kBufferId;
    EXPECT_EQ(
        cuPointerGetAttributes(1, &attribute, &data, reinterpret_cast<CUdeviceptr>(memory.data())),
        CuResult::kSuccess);
    return value;
  };
  const unsigned long long before = id();
  memory.replace();
  EXPECT_NE(id(), before);
}

// The child opens what this process exports, and has the same bytes.
TEST_F(FakeCuda, HandlesWorkInOtherProcessesOnly) {
  const GpuMemory memory(0, 8192);
  stamp(memory.view(), memory.size(), 9);
  ASSERT_EQ(cuCtxPushCurrent_v2(context_), CuResult::kSuccess);
  cuda::IpcMemHandle handle{};
  const auto inside = reinterpret_cast<CUdeviceptr>(memory.data()) + 100;
  ASSERT_EQ(cuIpcGetMemHandle(&handle, inside), CuResult::kSuccess);
  CUdeviceptr here = 0;
  EXPECT_EQ(cuIpcOpenMemHandle_v2(&here, handle, 1), CuResult::kInvalidContext);
  const pid_t child = ::fork();
  if (child == 0) {
    CUdeviceptr there = 0, twice = 0;
    bool good = cuIpcOpenMemHandle_v2(&there, handle, 1) == CuResult::kSuccess &&
                cuIpcOpenMemHandle_v2(&twice, handle, 1) == CuResult::kAlreadyMapped;
    std::byte* const view = fake_cuda::view(reinterpret_cast<void*>(there));
    good = good && difference(view, 8192, 9) == kSame;
    view[5] = std::byte{0x77};
    good = good && cuIpcCloseMemHandle(there) == CuResult::kSuccess;
    ::_exit(good ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(memory.view()[5], std::byte{0x77});
  ASSERT_EQ(cuCtxPopCurrent_v2(&context_), CuResult::kSuccess);
}

TEST_F(FakeCuda, ChunksAreMappedOneByOneAndTakeAccess) {
  const GpuMemory memory(1, 3 * GpuMemory::kChunk, GpuMemory::Kind::kChunks);
  ASSERT_EQ(cuCtxPushCurrent_v2(context_), CuResult::kSuccess);
  const auto begin = reinterpret_cast<CUdeviceptr>(memory.data());
  CUdeviceptr base = 0;
  size_t length = 0;
  ASSERT_EQ(cuMemGetAddressRange_v2(&base, &length, begin + GpuMemory::kChunk + 5),
            CuResult::kSuccess);
  EXPECT_EQ(base, begin + GpuMemory::kChunk);
  EXPECT_EQ(length, GpuMemory::kChunk);
  cuda::IpcMemHandle handle{};
  EXPECT_EQ(cuIpcGetMemHandle(&handle, begin), CuResult::kInvalidValue);
  CUstream stream = nullptr;
  ASSERT_EQ(cuStreamCreate(&stream, 0), CuResult::kSuccess);
  const cuda::MemAccessDesc none{{cuda::kLocationDevice, 1}, 0};
  ASSERT_EQ(cuMemSetAccess(begin, GpuMemory::kChunk, &none, 1), CuResult::kSuccess);
  EXPECT_EQ(cuMemcpyAsync(begin + GpuMemory::kChunk, begin, 64, stream), CuResult::kInvalidValue);
  ASSERT_EQ(cuStreamDestroy_v2(stream), CuResult::kSuccess);
  ASSERT_EQ(cuCtxPopCurrent_v2(&context_), CuResult::kSuccess);
}

}  // namespace
}  // namespace te::test
