// What is registered as memory of a GPU, and what the engine holds of the driver meanwhile.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "engine/pair.h"
#include "platform/memory_driver.h"
#include "support/gpu_memory.h"
#include "transfer_engine_c.h"

namespace te::test {
namespace {

using cuda::CuResult;
using Kind = GpuMemory::Kind;

class GpuRegistration : public testing::Test {
 protected:
  void SetUp() override { fake_cuda::reset(); }
  void TearDown() override {
    engine_.reset();
    for (const int gpu : {0, 1}) EXPECT_EQ(fake_cuda::context_holders(gpu), 0) << gpu;
    EXPECT_EQ(fake_cuda::streams(), 0);
    EXPECT_EQ(fake_cuda::events(), 0);
    EXPECT_EQ(fake_cuda::pinned_ranges(), 0);
    fake_cuda::reset();
  }

  Status add(const std::byte* at, size_t length, const char* location = "*") {
    return engine_->register_memory(const_cast<std::byte*>(at), length, location);
  }
  void remove(const std::byte* at) {
    EXPECT_TRUE(engine_->unregister_memory(const_cast<std::byte*>(at)).ok());
  }
  // Of the first buffer.
  std::string location() {
    const Result<SegmentInfo> info = engine_->describe_segment(kLocalSegment);
    EXPECT_TRUE(info.ok()) << info.status().to_string();
    return info.ok() && !info->buffers.empty() ? info->buffers.front().location : "";
  }

  std::unique_ptr<Engine> engine_ = make_engine();
};

TEST_F(GpuRegistration, FindsTheGpuOfEveryKindOfAllocation) {
  for (const Kind kind : {Kind::kWhole, Kind::kChunks, Kind::kManaged}) {
    for (const int gpu : {0, 1}) {
      const GpuMemory memory(gpu, 3 * GpuMemory::kChunk + 4096, kind);
      const std::string expected = "cuda:" + std::to_string(gpu);
      for (const std::string& asked : {std::string("*"), expected}) {
        ASSERT_TRUE(add(memory.data(), memory.size(), asked.c_str()).ok());
        EXPECT_EQ(location(), expected);
        EXPECT_EQ(engine_->describe_segment(kLocalSegment)->buffers.front().kind,
                  MemoryKind::kCuda);
        remove(memory.data());
      }
      // A tensor inside of an allocation.
      ASSERT_TRUE(add(memory.data() + GpuMemory::kChunk - 512, 1024).ok());
      EXPECT_EQ(location(), expected);
      remove(memory.data() + GpuMemory::kChunk - 512);
    }
  }
}

TEST_F(GpuRegistration, TheCInterfaceDescribesTheKind) {
  const GpuMemory memory(1, 4096);
  std::vector<std::byte> plain(4096);
  const transfer_engine_t engine = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "", 0, 0);
  ASSERT_NE(engine, nullptr) << transferEngineLastError();
  for (void* const each : {static_cast<void*>(memory.data()), static_cast<void*>(plain.data())}) {
    ASSERT_EQ(registerLocalMemory(engine, each, 4096, "*", REMOTE_ACCESS_DEFAULT), 0);
  }
  segment_buffer_t buffers[2] = {};
  size_t count = 2;
  ASSERT_EQ(describeSegment(engine, LOCAL_SEGMENT, buffers, &count), 0);
  ASSERT_EQ(count, 2u);
  for (const segment_buffer_t& each : buffers) {
    const bool on_gpu = each.address == reinterpret_cast<uint64_t>(memory.data());
    EXPECT_EQ(each.memory_kind, on_gpu ? MEMORY_CUDA : MEMORY_HOST);
    EXPECT_EQ(std::string(each.location) == "cuda:1", on_gpu) << each.location;
  }
  destroyTransferEngine(engine);
}

// As the topology writes it: that is how the GPU is found there.
TEST_F(GpuRegistration, KnowsThePciAddressOfTheGpu) {
  fake_cuda::show_from(4);
  const GpuMemory memory(1, 4096);
  const BufferEntry range{memory.data(), memory.size()};
  const Result<std::vector<ClassifiedRange>> found = classify(memory_drivers(), {&range, 1});
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->front().device->pci_address(), "0000:a4:00.0");
}

TEST_F(GpuRegistration, HostMemoryStaysHostMemory) {
  const GpuMemory gpu(0, 4096);  // the driver is in use
  std::vector<std::byte> plain(4096);
  EXPECT_TRUE(fails_with(add(plain.data(), 4096, "cuda:0"), Code::kInvalidArgument, "host memory"));
  ASSERT_TRUE(add(plain.data(), 4096).ok());
  EXPECT_EQ(location(), "*");
  remove(plain.data());
  CUcontext context = nullptr;
  ASSERT_EQ(cuDevicePrimaryCtxRetain(&context, 0), CuResult::kSuccess);
  ASSERT_EQ(cuCtxPushCurrent_v2(context), CuResult::kSuccess);
  void* pinned = nullptr;
  ASSERT_EQ(cuMemHostAlloc(&pinned, 4096, 0), CuResult::kSuccess);
  ASSERT_TRUE(add(static_cast<std::byte*>(pinned), 4096, "cpu:0").ok());
  EXPECT_EQ(location(), "cpu:0");
  remove(static_cast<std::byte*>(pinned));
  ASSERT_EQ(cuMemFreeHost(pinned), CuResult::kSuccess);
  ASSERT_EQ(cuCtxPopCurrent_v2(&context), CuResult::kSuccess);
  ASSERT_EQ(cuDevicePrimaryCtxRelease_v2(0), CuResult::kSuccess);
}

TEST_F(GpuRegistration, WrongClaimsAreErrorsThatSayWhatItIs) {
  for (const Kind kind : {Kind::kWhole, Kind::kManaged}) {
    const GpuMemory memory(0, 4096, kind);
    for (const char* wrong : {"cuda:1", "cuda:7", "cpu:0"}) {
      const Status status = add(memory.data(), 4096, wrong);
      EXPECT_TRUE(fails_with(status, Code::kInvalidArgument, std::string("'") + wrong + "'"));
      EXPECT_TRUE(fails_with(status, Code::kInvalidArgument, "memory of 'cuda:0': give that"));
    }
    EXPECT_EQ(fake_cuda::context_holders(0), 1) << "more than the application";
  }
}

TEST_F(GpuRegistration, MoreThanWasAllocatedIsAnError) {
  const GpuMemory memory(0, 2 * GpuMemory::kChunk, Kind::kChunks);
  const Status status = add(memory.data() + GpuMemory::kChunk, 2 * GpuMemory::kChunk);
  EXPECT_TRUE(fails_with(status, Code::kInvalidArgument, "are not all memory of a GPU"));
  const auto end = reinterpret_cast<uint64_t>(memory.data() + 2 * GpuMemory::kChunk);
  EXPECT_TRUE(fails_with(status, Code::kInvalidArgument, fmt::format("{:#x}", end)));
}

TEST_F(GpuRegistration, RetainsTheContextOfThatGpuAloneAndLeavesNoneCurrent) {
  const int made = fake_cuda::contexts_made(0);
  const GpuMemory memory(1, 2 << 20);
  EXPECT_EQ(fake_cuda::context_holders(1), 1);
  ASSERT_TRUE(add(memory.data(), 1 << 20).ok());
  EXPECT_EQ(fake_cuda::context_holders(1), 2);
  ASSERT_TRUE(add(memory.data() + (1 << 20), 1 << 20).ok());
  const std::unique_ptr<Engine> other = make_engine();
  ASSERT_TRUE(other->register_memory(memory.data(), 1 << 20, "*").ok());
  EXPECT_EQ(fake_cuda::context_holders(1), 2) << "each buffer or engine holds one";
  CUcontext current = nullptr;
  ASSERT_EQ(cuCtxGetCurrent(&current), CuResult::kSuccess);
  EXPECT_EQ(current, nullptr);
  remove(memory.data());
  remove(memory.data() + (1 << 20));
  EXPECT_EQ(fake_cuda::context_holders(1), 2) << "another engine has memory there";
  ASSERT_TRUE(other->unregister_memory(memory.data()).ok());
  EXPECT_EQ(fake_cuda::context_holders(1), 1) << "it is kept without memory";
  EXPECT_EQ(fake_cuda::contexts_made(0), made) << "a context was made on another GPU";
}

TEST_F(GpuRegistration, OrdersSynchronousOperationsOfTheDriver) {
  const GpuMemory whole(0, 4096), chunks(0, GpuMemory::kChunk, Kind::kChunks);
  ASSERT_TRUE(add(whole.data(), 4096).ok());
  ASSERT_TRUE(add(chunks.data(), 4096).ok()) << "where it is not possible, it is left";
  EXPECT_TRUE(fake_cuda::syncs_memops(whole.data()));
  EXPECT_FALSE(fake_cuda::syncs_memops(chunks.data()));
  remove(whole.data());
  remove(chunks.data());
}

TEST_F(GpuRegistration, ErrorsOfTheDriverAreReportedAndLeaveNothing) {
  const GpuMemory memory(0, 4096);
  for (const char* call : {"cuDevicePrimaryCtxRetain", "cuStreamCreate", "cuCtxPushCurrent"}) {
    fake_cuda::fail(call, CuResult::kOutOfMemory);
    const Status status = add(memory.data(), 4096);
    EXPECT_NE(status.message().find(call), std::string::npos) << status.to_string();
    EXPECT_NE(status.message().find("CUDA_ERROR_OUT_OF_MEMORY (2)"), std::string::npos);
    EXPECT_NE(status.message().find("cuda:0"), std::string::npos);
    fake_cuda::fail(call, CuResult::kSuccess);
    EXPECT_EQ(fake_cuda::context_holders(0), 1) << call;
  }
  ASSERT_TRUE(add(memory.data(), 4096).ok());
  remove(memory.data());
}

TEST_F(GpuRegistration, TenThousandTensorsInFewAllocations) {
  constexpr size_t kTensors = 10'000, kLength = 1024;
  const GpuMemory first(0, kTensors / 2 * kLength), second(1, kTensors / 2 * kLength);
  std::vector<BufferEntry> tensors;
  std::vector<void*> addresses;
  for (size_t i = 0; i < kTensors; ++i) {
    const GpuMemory& allocation = i % 2 == 0 ? first : second;
    tensors.push_back({allocation.data() + i / 2 * kLength, kLength});
    addresses.push_back(tensors.back().addr);
  }
  ASSERT_TRUE(engine_->register_memory_batch(tensors, "*").ok());
  EXPECT_EQ(fake_cuda::context_holders(0), 2);
  EXPECT_LE(fake_cuda::streams(), 4);
  ASSERT_TRUE(engine_->unregister_memory_batch(addresses).ok());
  EXPECT_EQ(fake_cuda::context_holders(0), 1);
}

}  // namespace
}  // namespace te::test
