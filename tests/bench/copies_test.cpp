#include "limits/copies.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
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

TEST_F(CopiesTest, ThreadsThatMeetCopyEveryBatch) {
  // The batch is no multiple of what is copied at once, nor the memory of the batch.
  constexpr uint64_t kBlock = 12 << 10, kBatch = 7;
  Copies copies(memcpy_block(to_.data(), from_.data()), kBlock, to_.size());
  const uint64_t whole = to_.size() / (kBatch * kBlock) * (kBatch * kBlock);
  const std::span<const std::byte> arrived = std::span(to_).first(whole);
  for (int i = 0; i < 100 && !expect_pattern(1, 0, arrived).ok(); ++i) {
    const Result<double> rate = copies.run_in_batches(kBatch, kShort);
    ASSERT_TRUE(rate.ok());
    EXPECT_GT(*rate, 0);
  }
  EXPECT_TRUE(expect_pattern(1, 0, arrived).ok());
  EXPECT_TRUE(std::ranges::all_of(std::span(to_).subspan(whole),
                                  [](std::byte byte) { return byte == std::byte{0}; }));
  EXPECT_EQ(copies.run_in_batches(1'000, kShort).code(), Code::kInvalidArgument);
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
  EXPECT_EQ(copies.run_in_batches(1, kShort).code(), Code::kInternal);
}

}  // namespace
}  // namespace te::bench
