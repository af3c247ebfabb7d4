#include "core/ambiguity.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace te {

bool operator==(const NumberRange& a, const NumberRange& b) {
  return a.begin == b.begin && a.end == b.end;
}

namespace {

using Ranges = std::vector<NumberRange>;
constexpr uint64_t kPage = 4096;
constexpr uint64_t kHigh = 0x7f0000000000;

TEST(Ambiguity, HighAddressesAreNone) {
  Ambiguity ambiguity;
  for (uint64_t i = 0; i < 1'000; ++i) {
    EXPECT_TRUE(ambiguity.add(kHigh + i * (1 << 30), 1 << 20, (i + 1) << 20).empty());
  }
  EXPECT_TRUE(ambiguity.ranges().empty());
}

TEST(Ambiguity, ALowBufferUnderALargeSegment) {
  Ambiguity ambiguity;
  EXPECT_TRUE(ambiguity.add(kHigh, 64 << 20, 64 << 20).empty());
  const Ranges expected = {{0x4c6000, 0x4c8000}};  // whole pages
  EXPECT_EQ(ambiguity.add(0x4c60c0, kPage, (64 << 20) + kPage), expected);
  EXPECT_EQ(ambiguity.ranges(), expected);
  EXPECT_TRUE(ambiguity.add(0x4c60c0, kPage, (64 << 20) + kPage).empty()) << "known already";
  EXPECT_TRUE(contains(ambiguity.ranges(), 0x4c6000));
  EXPECT_FALSE(contains(ambiguity.ranges(), 0x4c5fff));
  EXPECT_FALSE(contains(ambiguity.ranges(), 0x4c8000));
}

TEST(Ambiguity, ALayoutThatGrowsOverALowBuffer) {
  Ambiguity ambiguity;
  EXPECT_TRUE(ambiguity.add(0x10000, kPage, kPage).empty());
  EXPECT_TRUE(ambiguity.add(kHigh, 0xf000, 0x10000).empty());
  EXPECT_EQ(ambiguity.add(kHigh + (1 << 20), 8, 0x10008), (Ranges{{0x10000, 0x10008}}));
  EXPECT_EQ(ambiguity.add(kHigh + (2 << 20), 1 << 20, 0x110008), (Ranges{{0x10008, 0x11000}}));
  EXPECT_EQ(ambiguity.ranges(), (Ranges{{0x10000, 0x11000}}));
  // A layout that shrank and what was unregistered still count.
  EXPECT_TRUE(ambiguity.add(kHigh, kPage, kPage).empty());
  EXPECT_EQ(ambiguity.ranges(), (Ranges{{0x10000, 0x11000}}));
}

TEST(Ambiguity, TheKeptRangesAreBounded) {
  Ambiguity ambiguity;
  // Buffers far apart above the layout do not make what lies below it coarse.
  ambiguity.add(kHigh, 1 << 30, 1 << 30);
  ambiguity.add(0x400000, kPage, 1 << 30);
  ambiguity.add(0x800000, kPage, 1 << 30);
  for (uint64_t i = 1; i < 10'000; ++i) ambiguity.add((i * 7919 % 10'000) << 32, kPage, 1 << 30);
  EXPECT_EQ(ambiguity.ranges(), (Ranges{{0x400000, 0x401000}, {0x800000, 0x801000}}));
  // Many below it are merged in the end, and none is lost.
  std::set<uint64_t> added;
  for (uint64_t i = 1; i < 200; ++i) {
    const uint64_t address = i * 7919 % 200 * 0x300000;
    if (address == 0) continue;
    ambiguity.add(address, kPage, 1 << 30);
    added.insert(address);
  }
  EXPECT_LE(ambiguity.ranges().size(), Ambiguity::kMaxRanges);
  for (const uint64_t address : added) {
    EXPECT_TRUE(contains(ambiguity.ranges(), address)) << address;
    EXPECT_TRUE(contains(ambiguity.ranges(), address + kPage - 1)) << address;
  }
}

// What is returned is exactly what was added to the ranges, and a heap that grows bit by bit makes
// few growths.
TEST(Ambiguity, GrowthsAreDisjointAndFew) {
  Ambiguity ambiguity;
  ambiguity.add(kHigh, uint64_t{64} << 30, uint64_t{64} << 30);
  std::mt19937_64 random(5);
  uint64_t covered = 0;
  int growths = 0;
  for (uint64_t at = 0x31000000; at < 0x31000000 + (uint64_t{8} << 30);) {
    const uint64_t length = 1 + random() % 200'000;
    const Ranges grown = ambiguity.add(at, length, uint64_t{64} << 30);
    growths += grown.empty() ? 0 : 1;
    for (const NumberRange& range : grown) covered += range.end - range.begin;
    ASSERT_TRUE(contains(ambiguity.ranges(), at));
    ASSERT_TRUE(contains(ambiguity.ranges(), at + length - 1));
    at += length;
  }
  uint64_t total = 0;
  for (const NumberRange& range : ambiguity.ranges()) total += range.end - range.begin;
  EXPECT_EQ(covered, total);
  EXPECT_LT(growths, 200);
}

TEST(Ambiguity, TheEdgesOfTheNumbers) {
  Ambiguity ambiguity;
  EXPECT_EQ(ambiguity.add(UINT64_MAX - 10, 10, UINT64_MAX),
            (Ranges{{UINT64_MAX - 4095, UINT64_MAX}}));
  EXPECT_EQ(ambiguity.add(1, 10, 10), (Ranges{{0, kPage}}));
}

}  // namespace
}  // namespace te
