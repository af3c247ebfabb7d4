#include "row.h"

#include <gtest/gtest.h>

namespace te::bench {
namespace {

TEST(Row, ComparesEachRoundWithItsOwnLimit) {
  Row row("case", "GB/s", "limit", Bar::ratio_at_least(0.95));
  // The machine changed its speed between rounds: the two medians alone give 3 / 4.
  row.add(1, 2);
  row.add(4, 4);
  row.add(3, 6);
  ASSERT_TRUE(row.ratio().has_value());
  EXPECT_EQ(row.ratio()->median, 0.5);
  EXPECT_EQ(row.ratio()->min, 0.5);
  EXPECT_EQ(row.ratio()->max, 1);
  EXPECT_EQ(row.met(), false);
}

TEST(Row, ABarIsMetAtItsNumber) {
  Row least("case", "GB/s", "limit", Bar::ratio_at_least(0.5));
  least.add(1, 2);
  EXPECT_EQ(least.met(), true);
  Row most("case", "us", "limit", Bar::ratio_at_most(0.5));
  most.add(1, 2);
  EXPECT_EQ(most.met(), true);
  most.add(2, 2);
  most.add(2, 2);
  EXPECT_EQ(most.met(), false);
  Row value("case", "ns", "", Bar::value_at_most(100));
  value.add(100);
  EXPECT_EQ(value.met(), true);
  value.add(101);
  EXPECT_EQ(value.met(), false);
}

TEST(Row, NothingIsMetWithoutABarOrAMeasurement) {
  Row without_bar("case", "GB/s", "limit");
  without_bar.add(1, 1);
  EXPECT_EQ(without_bar.met(), std::nullopt);
  const Row not_measured("case", "ns", "", Bar::value_at_most(100));
  EXPECT_EQ(not_measured.met(), std::nullopt);
  Row failed("case", "ns", "", Bar::value_at_most(100));
  failed.add(1);
  failed.failed = "bytes were wrong";
  EXPECT_EQ(failed.met(), std::nullopt);
}

TEST(Row, ALimitOfZeroGivesNoRatio) {
  Row row("case", "GB/s", "limit", Bar::ratio_at_least(0.95));
  row.add(1, 0);
  EXPECT_EQ(row.ratio().has_value(), false);
  EXPECT_EQ(row.met(), std::nullopt);
}

}  // namespace
}  // namespace te::bench
