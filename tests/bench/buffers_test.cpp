#include "buffers.h"

#include <gtest/gtest.h>

#include <vector>

#include "pattern.h"

namespace te::bench {
namespace {

TEST(BenchBuffers, StripesLieEndToEnd) {
  std::vector<std::byte> bytes(64);
  for (size_t i = 0; i < 4; ++i) {
    const std::span<std::byte> part = stripe(bytes, i, 4);
    EXPECT_EQ(part.data(), bytes.data() + i * 16);
    EXPECT_EQ(part.size(), 16u);
  }
}

TEST(BenchBuffers, RotationCoversAtMostEverything) {
  EXPECT_EQ(covered(10, 64), 10u);
  EXPECT_EQ(covered(64, 64), 64u);
  EXPECT_EQ(covered(1000, 64), 64u);
}

TEST(BenchBuffers, OneWrongByteIsFound) {
  std::vector<std::byte> bytes(10'000);
  tool::fill_pattern(7, 100, bytes);
  EXPECT_TRUE(expect_pattern(7, 100, bytes).ok());
  EXPECT_FALSE(expect_pattern(8, 100, bytes).ok());
  EXPECT_FALSE(expect_pattern(7, 101, bytes).ok());
  bytes[9'999] ^= std::byte{1};
  const Status status = expect_pattern(7, 100, bytes);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.message().find("byte 10099 "), std::string::npos) << status.message();
}

}  // namespace
}  // namespace te::bench
