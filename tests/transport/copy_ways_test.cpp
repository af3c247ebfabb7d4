#include "transport/copy_ways.h"

#include <gtest/gtest.h>

#include <map>

namespace te::test {
namespace {

constexpr uint64_t kRun = 1 << 20;

// A machine on which each way takes so many ns for a run.
class CopyWaysTest : public testing::Test {
 protected:
  // Copies so much, in runs; how much of it went each way.
  std::map<CopyWay, uint64_t> copy(uint64_t bytes) {
    std::map<CopyWay, uint64_t> result;
    for (uint64_t done = 0; done < bytes; done += kRun) {
      const CopyWay way = ways_.way();
      ways_.copied(way, kRun, took_ns_[static_cast<size_t>(way)]);
      result[way] += kRun;
    }
    return result;
  }

  CopyWays ways_;
  std::array<int64_t, kCopyWays> took_ns_{1'000, 1'000, 1'000};
};

TEST_F(CopyWaysTest, EachIsTriedAndTheFastestStays) {
  for (size_t fastest = 0; fastest < kCopyWays; ++fastest) {
    ways_ = CopyWays();
    took_ns_ = {1'000, 1'000, 1'000};
    took_ns_[fastest] = 700;
    const auto first = copy(kCopyWays * CopyWays::kTurnBytes);
    EXPECT_EQ(first.size(), kCopyWays);
    for (const auto& [way, bytes] : first) EXPECT_EQ(bytes, CopyWays::kTurnBytes);
    const auto then = copy(50 * CopyWays::kTurnBytes);
    EXPECT_EQ(then.size(), 1u);
    EXPECT_EQ(then.begin()->first, static_cast<CopyWay>(fastest));
  }
}

TEST_F(CopyWaysTest, TheOthersAreTriedAgainNowAndThen) {
  took_ns_ = {1'000, 800, 1'200};
  copy(kCopyWays * CopyWays::kTurnBytes);
  took_ns_ = {400, 800, 1'200};
  const uint64_t all = 10 * CopyWays::kTurnsPerTrial * CopyWays::kTurnBytes;
  const auto went = copy(all);
  EXPECT_EQ(ways_.way(), CopyWay::kMemcpy) << "it is faster now";
  EXPECT_LT(went.at(CopyWay::kStreamingAhead), all / 50) << "trials cost little";
}

TEST_F(CopyWaysTest, WhatTheLastWayLeftInTheCachesDoesNotCount) {
  copy(CopyWays::kTurnBytes);
  ASSERT_EQ(ways_.way(), CopyWay::kMemcpy);
  for (uint64_t done = 0; done < CopyWays::kTurnBytes; done += kRun) {
    const bool first_half = done < CopyWays::kTurnBytes / 2;
    ways_.copied(CopyWay::kMemcpy, kRun, first_half ? 9'000 : 500);
  }
  copy(CopyWays::kTurnBytes);
  EXPECT_EQ(ways_.way(), CopyWay::kMemcpy);
}

TEST_F(CopyWaysTest, ALateRunOfTheTurnBeforeIsOfThatTurn) {
  copy(CopyWays::kTurnBytes);
  ASSERT_EQ(ways_.way(), CopyWay::kMemcpy);
  for (int i = 0; i < 1'000; ++i) ways_.copied(CopyWay::kStreaming, kRun, 1);
  EXPECT_EQ(ways_.way(), CopyWay::kMemcpy) << "its turn is not over";
}

}  // namespace
}  // namespace te::test
