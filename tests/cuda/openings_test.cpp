// Memory of other processes as their peers describe it: handles that are none, and lengths that are
// wrong, are errors that leave nothing open.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "platform/memory_driver.h"
#include "support/gpu_memory.h"

namespace te::test {
namespace {

constexpr size_t kSize = 2 * GpuMemory::kChunk;
constexpr uint32_t kDescriptor = 1, kFabric = 2;  // types of handles, as docs/wire.md has them

Fd memory_file(size_t length) {
  Fd file(::memfd_create("te-test", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(length)), 0);
  return file;
}

class Openings : public testing::Test {
 protected:
  void SetUp() override {
    fake_cuda::reset();
    const BufferEntry entry{memory_.data(), kSize};
    const Result<std::vector<ClassifiedRange>> found = classify(memory_drivers(), {&entry, 1});
    ASSERT_TRUE(found.ok()) << found.status().to_string();
    device_ = found->front().device;
    ASSERT_NE(device_, nullptr);
  }
  void TearDown() override {
    EXPECT_EQ(fake_cuda::open_ipc_handles(), 0);
    EXPECT_EQ(fake_cuda::chunk_handles(), 0);
    device_.reset();
    EXPECT_EQ(fake_cuda::context_holders(0), 1);
  }
  void expect_error(const BlockHandle& handle, uint64_t length, const char* text) {
    const Result<std::shared_ptr<const OpenedBlock>> opened = device_->open_block(handle, length);
    ASSERT_FALSE(opened.ok());
    EXPECT_NE(opened.status().message().find(text), std::string::npos)
        << opened.status().to_string();
  }

  const GpuMemory memory_{0, kSize};
  std::shared_ptr<const DeviceMemory> device_;
};

TEST_F(Openings, BytesThatAreNoHandleAreAnError) {
  BlockHandle handle;
  expect_error(handle, kSize, "cuIpcOpenMemHandle failed");
  handle.bytes.fill(0xFF);
  expect_error(handle, kSize, "cuIpcOpenMemHandle failed");
}

TEST_F(Openings, BytesThatAreNoFabricHandleAreAnError) {
  BlockHandle handle;
  handle.type = kFabric;
  expect_error(handle, GpuMemory::kChunk, "cuMemImportFromShareableHandle failed");
  handle.bytes.fill(0xFF);
  expect_error(handle, GpuMemory::kChunk, "cuMemImportFromShareableHandle failed");
}

TEST_F(Openings, HandlesOfAnUnknownTypeAreAnError) {
  BlockHandle handle;
  handle.type = 3;
  expect_error(handle, GpuMemory::kChunk, "unknown type 3");
}

// A peer sends none where one has to be.
TEST_F(Openings, NoDescriptorIsAnError) {
  BlockHandle handle;
  handle.type = kDescriptor;
  expect_error(handle, GpuMemory::kChunk, "cuMemImportFromShareableHandle failed");
}

TEST_F(Openings, DescriptorsOfSomethingElseAreAnError) {
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  const Fd out(pipe[1]);
  BlockHandle handle;
  handle.type = kDescriptor;
  handle.descriptor = Fd(pipe[0]);
  expect_error(handle, GpuMemory::kChunk, "cuMem");
  handle.descriptor = Fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
  expect_error(handle, GpuMemory::kChunk, "cuMem");
}

TEST_F(Openings, AChunkOfAnotherLengthIsAnError) {
  BlockHandle handle;
  handle.type = kDescriptor;
  for (const uint64_t length : {uint64_t{1}, uint64_t{GpuMemory::kChunk}, UINT64_MAX}) {
    handle.descriptor = memory_file(2 * GpuMemory::kChunk);
    expect_error(handle, length, "cuMem");
  }
}

// The handle is good, and of less memory than the peer says.
TEST_F(Openings, AnAllocationThatIsShorterIsAnError) {
  // Not the library's: where engines were made before, the child would close it.
  const int file = ::memfd_create("te-test", MFD_CLOEXEC);
  ASSERT_EQ(::ftruncate(file, 8192), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  BlockHandle handle;
  std::snprintf(reinterpret_cast<char*>(handle.bytes.data()), handle.bytes.size(), "%d %d 8192 0",
                child, file);
  {
    const Result<std::shared_ptr<const OpenedBlock>> opened = device_->open_block(handle, 8192);
    ASSERT_TRUE(opened.ok()) << opened.status().to_string();
    EXPECT_EQ(fake_cuda::open_ipc_handles(), 1);
    const auto again = device_->open_block(handle, 8192);
    ASSERT_TRUE(again.ok()) << "a second opening is the first one's";
    EXPECT_EQ((*again)->data(), (*opened)->data());
    EXPECT_EQ(fake_cuda::open_ipc_handles(), 1);
  }
  EXPECT_EQ(fake_cuda::open_ipc_handles(), 0);
  expect_error(handle, 8193, "shorter than the 8193 bytes");
  EXPECT_EQ(fake_cuda::open_ipc_handles(), 0);
  ::close(file);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST_F(Openings, BlocksThatAreNotThereAreNotExported) {
  const auto begin = reinterpret_cast<uint64_t>(memory_.data());
  const Result<std::vector<MemoryBlock>> blocks = device_->blocks();
  ASSERT_TRUE(blocks.ok());
  ASSERT_EQ(blocks->size(), 1u);
  EXPECT_TRUE(device_->export_block(blocks->front()).ok());
  EXPECT_FALSE(device_->export_block({begin, kSize, blocks->front().id + 1}).ok());
  EXPECT_FALSE(device_->export_block({begin + 4096, 4096, blocks->front().id}).ok());
}

}  // namespace
}  // namespace te::test
