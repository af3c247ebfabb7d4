#include "pattern.h"

#include <gtest/gtest.h>

#include <vector>

namespace te::tool {
namespace {

std::vector<std::byte> pattern(uint64_t seed, uint64_t position, size_t length) {
  std::vector<std::byte> bytes(length);
  fill_pattern(seed, position, bytes);
  return bytes;
}

TEST(Pattern, IsTheSameHoweverItIsCut) {
  const std::vector<std::byte> whole = pattern(42, 1000, 300);
  for (size_t begin = 0; begin < 20; ++begin) {
    for (const size_t length : {1, 2, 7, 8, 9, 63, 255}) {
      const std::vector<std::byte> part = pattern(42, 1000 + begin, length);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + static_cast<long>(begin)))
          << begin << " " << length;
    }
  }
}

TEST(Pattern, IsAnotherForAnotherSeedOrPlace) {
  const std::vector<std::byte> bytes = pattern(1, 0, 4096);
  for (const auto& other : {pattern(2, 0, 4096), pattern(1, 8, 4096), pattern(1, 4096, 4096)}) {
    size_t equal = 0;
    for (size_t i = 0; i < bytes.size(); ++i) equal += bytes[i] == other[i] ? 1 : 0;
    EXPECT_LT(equal, bytes.size() / 64);  // 1 in 256 by chance
  }
}

TEST(Pattern, WhatWasFilledIsRight) {
  for (const uint64_t position : {0, 1, 4095, 12345}) {
    EXPECT_FALSE(find_mismatch(9, position, pattern(9, position, 10'000)).has_value());
  }
  EXPECT_FALSE(find_mismatch(9, 0, {}).has_value());
}

TEST(Pattern, AnyWrongByteIsFoundAndNamed) {
  const uint64_t position = 77;
  for (const size_t wrong : {0, 1, 8, 4095, 4096, 4097, 9999}) {
    std::vector<std::byte> bytes = pattern(5, position, 10'000);
    const std::byte expected = bytes[wrong];
    bytes[wrong] ^= std::byte{0x10};
    const auto mismatch = find_mismatch(5, position, bytes);
    ASSERT_TRUE(mismatch.has_value()) << wrong;
    EXPECT_EQ(mismatch->position, position + wrong);
    EXPECT_EQ(mismatch->expected, expected);
    EXPECT_EQ(mismatch->found, bytes[wrong]);
    EXPECT_EQ(mismatch->wrong_bytes, 1u);
  }
}

TEST(Pattern, AllWrongBytesAreCounted) {
  std::vector<std::byte> bytes = pattern(5, 0, 10'000);
  for (const size_t wrong : {100, 5000, 9000}) bytes[wrong] ^= std::byte{1};
  const auto mismatch = find_mismatch(5, 0, bytes);
  ASSERT_TRUE(mismatch.has_value());
  EXPECT_EQ(mismatch->position, 100u);
  EXPECT_EQ(mismatch->wrong_bytes, 3u);
}

}  // namespace
}  // namespace te::tool
