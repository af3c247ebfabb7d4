#include "transport/progress/callers.h"

#include <gtest/gtest.h>

#include <thread>

namespace te {
namespace {

int64_t now = 1;
int64_t clock() { return now; }

TEST(CallerProgress, OneAtATimeAndTheNextKeepsItsTurnAwhile) {
  CallerProgress visits(clock);
  EXPECT_FALSE(visits.expected(now));
  ASSERT_TRUE(visits.begin());
  EXPECT_TRUE(visits.expected(now));
  EXPECT_FALSE(visits.leased(now));
  EXPECT_FALSE(visits.enter());
  EXPECT_FALSE(visits.end(true)) << "it is likely to be back";
  EXPECT_TRUE(visits.leased(now));
  EXPECT_TRUE(visits.expected(now + CallerProgress::kLeaseNs - 1));
  EXPECT_FALSE(visits.expected(now + CallerProgress::kLeaseNs));
  ASSERT_TRUE(visits.begin());
  EXPECT_TRUE(visits.end(false)) << "the transport's own threads have to come";
  EXPECT_FALSE(visits.expected(now));
}

TEST(CallerProgress, ThreadsThatMeetLeaveItToTheTransportForAWhile) {
  CallerProgress visits(clock);
  ASSERT_TRUE(visits.begin());
  EXPECT_FALSE(visits.backed_off());
  EXPECT_FALSE(visits.begin());
  EXPECT_TRUE(visits.backed_off());
  EXPECT_TRUE(visits.end(true)) << "somebody was sent away";
  EXPECT_FALSE(visits.expected(now));
  EXPECT_FALSE(visits.begin());
  now += 20 * kNsPerMs;
  ASSERT_TRUE(visits.begin());
  EXPECT_FALSE(visits.backed_off());
  EXPECT_FALSE(visits.end(true));
}

TEST(CallerProgress, WhatIsNoVisitMeetsNone) {
  CallerProgress visits(clock);
  ASSERT_TRUE(visits.enter());
  EXPECT_FALSE(visits.begin());
  visits.leave();
  EXPECT_TRUE(visits.backed_off());
  now += 20 * kNsPerMs;
  EXPECT_TRUE(visits.begin());
  visits.back_off();
  EXPECT_TRUE(visits.backed_off());
}

TEST(CallerProgress, TheTransportsThreadLeavesTheTurnToAVisitorThatHasItButNotForLong) {
  CallerProgress visits(clock);
  Mutex turn;
  const int64_t attended = now;
  const auto leaves = [&](int64_t at) {
    bool result = false;
    std::thread([&] { result = visits.leave_to_caller(turn, attended, at); }).join();
    return result;
  };
  {
    const MutexLock held(turn);
    EXPECT_FALSE(leaves(now)) << "no visitor has it";
    ASSERT_TRUE(visits.begin());
    EXPECT_TRUE(leaves(now));
    EXPECT_TRUE(leaves(attended + CallerProgress::kLeftAloneNs - 1));
    EXPECT_FALSE(leaves(attended + CallerProgress::kLeftAloneNs))
        << "it stayed away for long enough";
  }
  EXPECT_FALSE(leaves(now)) << "the turn is free";
  EXPECT_FALSE(visits.end(true));
  const MutexLock held(turn);  // it was only looked at
  EXPECT_TRUE(leaves(now)) << "the visitor is likely to be back, and somebody has the turn";
}

}  // namespace
}  // namespace te
