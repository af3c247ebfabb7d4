#include "histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace te::tool {
namespace {

TEST(Histogram, EmptyIsZeroEverywhere) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.min(), 0u);
  EXPECT_EQ(histogram.max(), 0u);
  EXPECT_EQ(histogram.percentile(50), 0u);
}

TEST(Histogram, SmallValuesAreExact) {
  Histogram histogram;
  for (uint64_t value = 0; value < 64; ++value) histogram.record(value);
  EXPECT_EQ(histogram.count(), 64u);
  EXPECT_EQ(histogram.min(), 0u);
  EXPECT_EQ(histogram.max(), 63u);
  EXPECT_EQ(histogram.percentile(0), 0u);
  EXPECT_EQ(histogram.percentile(50), 31u);
  EXPECT_EQ(histogram.percentile(75), 47u);
  EXPECT_EQ(histogram.percentile(100), 63u);
}

TEST(Histogram, PercentileNamesTheRankThatWasAskedFor) {
  Histogram histogram;
  for (int i = 0; i < 999; ++i) histogram.record(1);
  histogram.record(50);
  EXPECT_EQ(histogram.percentile(99.9), 1u);  // the 999th of 1000
  EXPECT_EQ(histogram.percentile(99.91), 50u);
  EXPECT_EQ(histogram.percentile(1000), 50u);
  EXPECT_EQ(histogram.percentile(-1), 1u);
}

TEST(Histogram, EveryMagnitudeIsWithinOneThirtySecond) {
  for (unsigned bit = 0; bit < 64; ++bit) {
    for (const uint64_t below : {0, 1}) {
      const uint64_t value = (uint64_t{1} << bit) - below;
      Histogram histogram;
      histogram.record(value);
      histogram.record(UINT64_MAX);  // so that max() does not correct the answer
      const uint64_t shown = histogram.percentile(50);
      EXPECT_GE(shown, value);
      EXPECT_LE(shown - value, value / 32) << value;
    }
  }
}

TEST(Histogram, LargestValueFits) {
  Histogram histogram;
  histogram.record(UINT64_MAX);
  EXPECT_EQ(histogram.percentile(50), UINT64_MAX);
  EXPECT_EQ(histogram.min(), UINT64_MAX);
}

TEST(Histogram, AgreesWithSortedValues) {
  std::mt19937_64 random(7);
  Histogram histogram;
  std::vector<uint64_t> values;
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t value = random() >> (random() % 60);
    values.push_back(value);
    histogram.record(value);
  }
  std::sort(values.begin(), values.end());
  for (const double percent : {0.1, 1.0, 10.0, 50.0, 90.0, 99.0, 99.9}) {
    const auto rank =
        static_cast<size_t>(std::ceil(percent / 100 * static_cast<double>(values.size())));
    const uint64_t exact = values[rank - 1];
    const uint64_t shown = histogram.percentile(percent);
    EXPECT_GE(shown, exact) << percent;
    EXPECT_LE(shown - exact, exact / 32) << percent;
  }
  EXPECT_EQ(histogram.max(), values.back());
  EXPECT_EQ(histogram.min(), values.front());
}

TEST(Histogram, MergeCountsBoth) {
  Histogram low;
  Histogram high;
  for (int i = 0; i < 10; ++i) low.record(10);
  for (int i = 0; i < 10; ++i) high.record(1'000'000);
  low.merge(high);
  low.merge(Histogram());
  EXPECT_EQ(low.count(), 20u);
  EXPECT_EQ(low.percentile(50), 10u);
  EXPECT_EQ(low.percentile(51), 1'000'000u);
  EXPECT_EQ(low.min(), 10u);
  EXPECT_EQ(low.max(), 1'000'000u);
}

}  // namespace
}  // namespace te::tool
