#include "transport/visits.h"

#include <gtest/gtest.h>

namespace te {
namespace {

int64_t now = 1;
int64_t clock() { return now; }

TEST(Visits, OneAtATimeAndTheNextKeepsItsTurnAwhile) {
  Visits visits(clock);
  EXPECT_FALSE(visits.expected(now));
  ASSERT_TRUE(visits.begin());
  EXPECT_TRUE(visits.expected(now));
  EXPECT_FALSE(visits.leased(now));
  EXPECT_FALSE(visits.enter());
  EXPECT_FALSE(visits.end(true)) << "it is likely to be back";
  EXPECT_TRUE(visits.leased(now));
  EXPECT_TRUE(visits.expected(now + Visits::kLeaseNs - 1));
  EXPECT_FALSE(visits.expected(now + Visits::kLeaseNs));
  ASSERT_TRUE(visits.begin());
  EXPECT_TRUE(visits.end(false)) << "the transport's own threads have to come";
  EXPECT_FALSE(visits.expected(now));
}

TEST(Visits, ThreadsThatMeetLeaveItToTheTransportForAWhile) {
  Visits visits(clock);
  ASSERT_TRUE(visits.begin());
  EXPECT_FALSE(visits.crowded());
  EXPECT_FALSE(visits.begin());
  EXPECT_TRUE(visits.crowded());
  EXPECT_TRUE(visits.end(true)) << "somebody was sent away";
  EXPECT_FALSE(visits.expected(now));
  EXPECT_FALSE(visits.begin());
  now += 20 * kNsPerMs;
  ASSERT_TRUE(visits.begin());
  EXPECT_FALSE(visits.crowded());
  EXPECT_FALSE(visits.end(true));
}

TEST(Visits, WhatIsNoVisitMeetsNone) {
  Visits visits(clock);
  ASSERT_TRUE(visits.enter());
  EXPECT_FALSE(visits.begin());
  visits.leave();
  EXPECT_TRUE(visits.crowded());
  now += 20 * kNsPerMs;
  EXPECT_TRUE(visits.begin());
  visits.crowd();
  EXPECT_TRUE(visits.crowded());
}

}  // namespace
}  // namespace te
