#include "limits/copies.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <vector>

#include "buffers.h"
#include "pattern.h"

namespace te::bench {
namespace {

constexpr std::chrono::milliseconds kShort{5};

class CopiesTest : public testing::Test {
 protected:
  CopiesTest() { tool::fill_pattern(1, 0, from_); }

  std::vector<std::byte> from_ = std::vector<std::byte>(256 << 10);
  std::vector<std::byte> to_ = std::vector<std::byte>(256 << 10);
};

TEST_F(CopiesTest, ThreadsTogetherCopyEveryBlock) {
  Copies copies(memcpy_block(to_.data(), from_.data()), 4 << 10, to_.size());
  while (copies.copied_bytes() < to_.size()) {
    const Result<double> rate = copies.run(3, kShort);
    ASSERT_TRUE(rate.ok());
    EXPECT_GT(*rate, 0);
  }
  EXPECT_TRUE(expect_pattern(1, 0, to_).ok());
}

TEST_F(CopiesTest, TimesEachBlock) {
  Copies copies(memcpy_block(to_.data(), from_.data()), 4 << 10, to_.size());
  tool::Histogram block_ns;
  ASSERT_TRUE(copies.time_blocks(kShort, block_ns).ok());
  EXPECT_EQ(block_ns.count() * (4 << 10), copies.copied_bytes());
}

TEST_F(CopiesTest, TheKernelCopiesBothWays) {
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    const bool writing = opcode == Opcode::kWrite;
    std::fill(to_.begin(), to_.end(), std::byte{0});
    std::byte* const here = writing ? from_.data() : to_.data();
    std::byte* const there = writing ? to_.data() : from_.data();
    Copies copies(process_vm_block(getpid(), opcode, here, reinterpret_cast<uintptr_t>(there)),
                  to_.size(), to_.size());
    const Result<double> rate = copies.run(1, kShort);
    if (rate.code() == Code::kUnsupported) GTEST_SKIP() << rate.status().message();
    ASSERT_TRUE(rate.ok()) << rate.status().message();
    EXPECT_TRUE(expect_pattern(1, 0, to_).ok());
  }
}

TEST_F(CopiesTest, AFailedCopyIsReported) {
  Copies copies([](uint64_t, uint64_t) { return Status(Code::kInternal, "no"); }, 4096, 8192);
  EXPECT_EQ(copies.run(2, kShort).code(), Code::kInternal);
  EXPECT_EQ(copies.best(kShort).code(), Code::kInternal);
}

}  // namespace
}  // namespace te::bench
