#include "statistics.h"

#include <gtest/gtest.h>

namespace te::bench {
namespace {

TEST(Statistics, TakesTheMiddleOfAnOddNumber) {
  const Summary summary = summarize({5, 1, 3});
  EXPECT_EQ(summary.median, 3);
  EXPECT_EQ(summary.min, 1);
  EXPECT_EQ(summary.max, 5);
}

TEST(Statistics, TakesTheMeanOfTheTwoInTheMiddle) {
  EXPECT_EQ(summarize({8, 2, 4, 100}).median, 6);
}

TEST(Statistics, OneValueIsAllThree) {
  const Summary summary = summarize({7});
  EXPECT_EQ(summary.median, 7);
  EXPECT_EQ(summary.min, 7);
  EXPECT_EQ(summary.max, 7);
}

TEST(Statistics, NothingIsZero) { EXPECT_EQ(summarize({}).median, 0); }

}  // namespace
}  // namespace te::bench
