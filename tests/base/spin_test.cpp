#include "base/spin.h"

#include <gtest/gtest.h>

namespace te {
namespace {

constexpr int64_t kLimit = 1'000;

TEST(SpinPolicy, PollsAtFirst) {
  SpinPolicy spin(kLimit);
  EXPECT_EQ(spin.budget_ns(), kLimit);
}

TEST(SpinPolicy, GivesUpSoonAfterWhatTookLong) {
  SpinPolicy spin(kLimit);
  for (int i = 0; i < 100; ++i) spin.came_after(10);
  spin.came_after(INT64_MAX);
  spin.came_after(INT64_MAX);
  EXPECT_EQ(spin.budget_ns(), 0);
}

TEST(SpinPolicy, ComesBackAfterAFewThatCameSoon) {
  SpinPolicy spin(kLimit);
  for (int i = 0; i < 100; ++i) spin.came_after(INT64_MAX);
  int needed = 0;
  while (spin.budget_ns() == 0 && needed < 100) {
    spin.came_after(kLimit / 2);
    ++needed;
  }
  EXPECT_GT(needed, 1);
  EXPECT_LT(needed, 10);
}

TEST(SpinPolicy, AZeroLimitNeverPolls) {
  SpinPolicy spin(0);
  for (int i = 0; i < 100; ++i) spin.came_after(0);
  EXPECT_EQ(spin.budget_ns(), 0);
}

}  // namespace
}  // namespace te
