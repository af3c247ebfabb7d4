// A process that has a CUDA driver, and registers no memory of a GPU.
#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/pair.h"
#include "support/fake_cuda/driver.h"
#include "support/fake_cuda/fake_cuda.h"

namespace te::test {
namespace {

TEST(NoGpu, TheDriverIsNotInitialized) {
  ASSERT_EQ(::setenv("FAKE_CUDA_ABORT", "1", 1), 0);
  {
    Pair pair;
    EXPECT_TRUE(pair.works());
    std::vector<std::byte> memory(4096);
    for (const char* location : {"*", "cpu:0"}) {
      ASSERT_TRUE(pair.target().register_memory(memory.data(), memory.size(), location).ok());
      ASSERT_TRUE(pair.target().unregister_memory(memory.data()).ok());
    }
    const Status refused = pair.target().register_memory(memory.data(), memory.size(), "cuda:0");
    EXPECT_TRUE(fails_with(refused, Code::kInvalidArgument, "host memory"));
    Result<void*> allocated = pair.target().allocate(1 << 20);
    ASSERT_TRUE(allocated.ok());
    EXPECT_TRUE(pair.target().free(*allocated).ok());
  }
  EXPECT_EQ(fake_cuda::calls("cuInit"), 0u);
  EXPECT_EQ(fake_cuda::calls(nullptr), fake_cuda::calls("cuPointerGetAttributes"))
      << "more than what a pointer is was asked";
}

TEST(NoGpuDeathTest, TheDriverOfThisTestEndsWhoInitializesIt) {
  ASSERT_EQ(::setenv("FAKE_CUDA_ABORT", "1", 1), 0);
  EXPECT_DEATH((void)cuInit(0), "cuInit was called");
}

}  // namespace
}  // namespace te::test
