#include "transport/copy_crew.h"

#include <gtest/gtest.h>

#include "transport/copy_stream.h"

namespace te {
namespace {

// Of two threads, both asleep.
CopyCrew two() {
  CopyCrew crew;
  crew.hire();
  crew.hire();
  crew.begin_sleep();
  crew.begin_sleep();
  return crew;
}

TEST(CopyCrew, WakesAsManyAsItHasAndNoMore) {
  CopyCrew crew = two();
  EXPECT_FALSE(crew.at_work());
  EXPECT_TRUE(crew.wake_one());
  EXPECT_TRUE(crew.wake_one());
  EXPECT_TRUE(crew.at_work());
  EXPECT_FALSE(crew.wake_one());
  crew.end_sleep();
  crew.begin(true);
  EXPECT_FALSE(crew.wake_one()) << "the other one is on its way";
}

TEST(CopyCrew, CountsHelpersAmongThoseThatCopy) {
  CopyCrew crew = two();
  crew.begin(false);
  EXPECT_TRUE(crew.copying());
  EXPECT_FALSE(crew.at_work());
  EXPECT_FALSE(crew.enough_copying());
  EXPECT_TRUE(crew.wake_one());
  EXPECT_FALSE(crew.wake_one()) << "two copy";
  crew.begin(false);
  EXPECT_TRUE(crew.enough_copying());
  crew.end(false);
  crew.end(false);
  EXPECT_FALSE(crew.copying());
}

TEST(CopyCrew, ThreadsThatLingerNeedNoWaking) {
  CopyCrew crew;
  crew.hire();
  crew.hire();
  crew.begin_sleep();
  crew.begin_linger();
  crew.begin(false);
  EXPECT_FALSE(crew.wake_one());
  crew.end_linger();
  EXPECT_TRUE(crew.wake_one());
}

TEST(CopyCrew, LeavesSomeRunsToAHelperThatComesBack) {
  CopyCrew crew = two();
  crew.expect_helper();
  int left = 0;
  while (!crew.wake_one_unless_helped()) ++left;
  EXPECT_EQ(left, 4);
  EXPECT_TRUE(crew.wake_one_unless_helped());
  crew.end_sleep();
  crew.begin(true);
  crew.expect_helper();
  EXPECT_TRUE(crew.enough_copying()) << "of two, one copies and a helper comes";
  crew.helper_came();
  EXPECT_FALSE(crew.enough_copying());
}

TEST(CopyStream, BeginsWithSixteenMebibytesWithoutAPause) {
  constexpr uint64_t kStep = 1 << 20;
  CopyStream stream;
  int64_t now = 1'000'000'000;
  for (uint64_t steps = 1; steps < 16; ++steps, now += 100'000) stream.add(kStep, kStep, now);
  EXPECT_FALSE(stream.streaming());
  stream.add(kStep, kStep, now);
  EXPECT_TRUE(stream.streaming());
  stream.take(kStep - 1);
  EXPECT_TRUE(stream.streaming());
  stream.take(kStep);
  EXPECT_FALSE(stream.streaming()) << "the rest came later";
}

TEST(CopyStream, APauseBeginsAnew) {
  constexpr uint64_t kHalf = 8 << 20;
  CopyStream stream;
  stream.add(kHalf, kHalf, 1'000'000'000);
  stream.add(kHalf, kHalf, 1'000'100'001);
  EXPECT_FALSE(stream.streaming());
  stream.copied(1'000'200'000);
  stream.add(kHalf, kHalf, 1'000'300'000);
  EXPECT_TRUE(stream.streaming()) << "copying is no pause";
}

}  // namespace
}  // namespace te
