// When a connection sends without a copy, and which of its sends have completed.
#include "transport/tcp/zero_copy.h"

#include <gtest/gtest.h>

namespace te::tcp {
namespace {

using Verdict = ZeroCopyTrial::Verdict;

constexpr uint64_t kFrame = 1 << 20;
constexpr int kFramesOfPeriod = static_cast<int>(ZeroCopyTrial::kPeriodBytes / kFrame);

// One period, at that cost of each frame; how it was sent.
bool period(ZeroCopyTrial& trial, int64_t cpu_ns) {
  const bool without_copy = trial.without_copy();
  for (int i = 0; i < kFramesOfPeriod; ++i) {
    EXPECT_EQ(trial.without_copy(), without_copy);
    trial.sent(kFrame, cpu_ns);
  }
  return without_copy;
}

// A period without a copy and one with it.
void pair(ZeroCopyTrial& trial, int64_t without_ns, int64_t with_ns) {
  EXPECT_TRUE(period(trial, without_ns));
  EXPECT_FALSE(trial.verdict() == Verdict::kOpen && period(trial, with_ns));
}

TEST(ZeroCopyTrial, PeriodsTakeTurnsUntilTheCopyIsFoundToCostMore) {
  ZeroCopyTrial trial(ZeroCopyMode::kAuto);
  for (int i = 0; i < ZeroCopyTrial::kWinsToKeep; ++i) {
    EXPECT_EQ(trial.verdict(), Verdict::kOpen) << i;
    pair(trial, 100'000, 120'000);
  }
  EXPECT_EQ(trial.verdict(), Verdict::kKeep);
  EXPECT_TRUE(trial.without_copy());
  // Settled, whatever it costs now.
  for (int i = 0; i < 100; ++i) trial.sent(kFrame, 1'000'000);
  EXPECT_TRUE(trial.without_copy());
}

TEST(ZeroCopyTrial, WhatGainsLessThanATenthIsGivenUp) {
  ZeroCopyTrial trial(ZeroCopyMode::kAuto);
  for (int i = 0; i <= ZeroCopyTrial::kPairs - ZeroCopyTrial::kWinsToKeep; ++i) {
    EXPECT_EQ(trial.verdict(), Verdict::kOpen) << i;
    pair(trial, 100'000, 109'000);
  }
  EXPECT_EQ(trial.verdict(), Verdict::kGiveUp);
  EXPECT_FALSE(trial.without_copy());
}

TEST(ZeroCopyTrial, SomePairsMayBeLost) {
  ZeroCopyTrial trial(ZeroCopyMode::kAuto);
  for (int i = 0; i < ZeroCopyTrial::kPairs - ZeroCopyTrial::kWinsToKeep; ++i) {
    pair(trial, 900'000, 100'000);
  }
  for (int i = 0; i < ZeroCopyTrial::kWinsToKeep; ++i) pair(trial, 100'000, 200'000);
  EXPECT_EQ(trial.verdict(), Verdict::kKeep);
}

TEST(ZeroCopyTrial, AKernelThatCopiesSettlesIt) {
  constexpr uint64_t kTold = ZeroCopyTrial::kReported;
  ZeroCopyTrial fresh(ZeroCopyMode::kAuto);
  EXPECT_TRUE(fresh.without_copy());
  fresh.reported(kTold - 1, kTold - 1);
  EXPECT_EQ(fresh.verdict(), Verdict::kOpen);
  fresh.reported(kTold, kTold);
  EXPECT_EQ(fresh.verdict(), Verdict::kGiveUp);
  EXPECT_FALSE(fresh.without_copy());
  // A packet now and then is no matter.
  ZeroCopyTrial mostly_not(ZeroCopyMode::kAuto);
  for (uint64_t i = 1; i <= 100; ++i) {
    mostly_not.reported(i * kTold, i * ZeroCopyTrial::kMostCopied);
  }
  EXPECT_EQ(mostly_not.verdict(), Verdict::kOpen);
  // Later as well: the way to the peer may have changed.
  ZeroCopyTrial kept(ZeroCopyMode::kAuto);
  for (int i = 0; i < ZeroCopyTrial::kWinsToKeep; ++i) pair(kept, 1, 1'000'000);
  ASSERT_EQ(kept.verdict(), Verdict::kKeep);
  kept.reported(10 * kTold, 0);
  EXPECT_EQ(kept.verdict(), Verdict::kKeep);
  kept.reported(11 * kTold, kTold);
  EXPECT_EQ(kept.verdict(), Verdict::kGiveUp);
}

TEST(ZeroCopyTrial, TooManyRefusalsInARowSettleIt) {
  ZeroCopyTrial trial(ZeroCopyMode::kAuto);
  for (int i = 0; i < ZeroCopyTrial::kMostRefused - 1; ++i) trial.refused();
  trial.sent(1, 1);
  for (int i = 0; i < ZeroCopyTrial::kMostRefused - 1; ++i) trial.refused();
  EXPECT_EQ(trial.verdict(), Verdict::kOpen);
  trial.refused();
  EXPECT_EQ(trial.verdict(), Verdict::kGiveUp);
}

TEST(ZeroCopyTrial, TheSettingOverrulesIt) {
  ZeroCopyTrial on(ZeroCopyMode::kOn);
  on.reported(1000, 1000);
  for (int i = 0; i < 2 * ZeroCopyTrial::kMostRefused; ++i) on.refused();
  for (int i = 0; i < 10 * kFramesOfPeriod; ++i) on.sent(kFrame, 1'000'000'000);
  EXPECT_TRUE(on.without_copy());
  const ZeroCopyTrial off(ZeroCopyMode::kOff);
  EXPECT_FALSE(off.without_copy());
}

TEST(ZeroCopyTrial, SmallRequestsAreNoMatter) {
  constexpr uint64_t kLeast = ZeroCopyTrial::kLeastBytes;
  EXPECT_TRUE(ZeroCopyTrial::is_large(kLeast, 1));
  EXPECT_FALSE(ZeroCopyTrial::is_large(kLeast - 1, 1));
  EXPECT_TRUE(ZeroCopyTrial::is_large(16 * kLeast, 16));
  EXPECT_FALSE(ZeroCopyTrial::is_large(16 * kLeast, 17));
}

TEST(ZeroCopyCompletions, RangesInOrder) {
  ZeroCopyCompletions completions;
  EXPECT_EQ(completions.below(), 0u);
  completions.add(0, 0);
  EXPECT_EQ(completions.below(), 1u);
  completions.add(1, 9);
  EXPECT_EQ(completions.below(), 10u);
}

TEST(ZeroCopyCompletions, WhatComesEarlyWaitsForTheRest) {
  ZeroCopyCompletions completions;
  completions.add(7, 8);
  completions.add(2, 3);
  completions.add(4, 5);
  EXPECT_EQ(completions.below(), 0u);
  completions.add(0, 1);
  EXPECT_EQ(completions.below(), 6u);
  completions.add(6, 6);
  EXPECT_EQ(completions.below(), 9u);
}

TEST(ZeroCopyCompletions, WhatWasToldIsTakenOnce) {
  ZeroCopyCompletions completions;
  completions.add(0, 4);
  completions.add(3, 4);
  EXPECT_EQ(completions.below(), 5u);
  completions.add(5, 5);
  EXPECT_EQ(completions.below(), 6u);
}

TEST(ZeroCopyCompletions, GoesOnWhereTheKernelsNumbersBeginAnew) {
  ZeroCopyCompletions completions;
  uint64_t below = 0;
  for (int i = 0; i < 5; ++i) {
    for (const uint32_t first : {0u, 0x40000000u, 0x80000000u, 0xC0000000u}) {
      completions.add(first, first + 0x3FFFFFFF);
      below += 0x40000000;
      ASSERT_EQ(completions.below(), below);
    }
  }
  completions.add(0, 0xFFFFFFFA);
  below += 0xFFFFFFFB;
  // Across the end, and out of order there.
  completions.add(3, 4);
  EXPECT_EQ(completions.below(), below);
  completions.add(0xFFFFFFFB, 2);
  EXPECT_EQ(completions.below(), below + 10);
}

}  // namespace
}  // namespace te::tcp
