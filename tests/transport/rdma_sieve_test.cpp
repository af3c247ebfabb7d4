#include "transport/rdma/sieve.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

namespace te::rdma {
namespace {

const auto kAny = [](int) { return true; };

class SieveTest : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 5; ++i) items_[static_cast<size_t>(i)] = i;
    for (int& item : items_) sieve_.insert(&item);
  }
  int evict() {
    int* victim = sieve_.victim(kAny);
    if (victim == nullptr) return -1;
    sieve_.erase(victim);
    return *victim;
  }

  std::array<int, 5> items_{};
  Sieve<int> sieve_;
};

TEST_F(SieveTest, TheOldestThatNobodyUsedGoesFirst) {
  EXPECT_EQ(evict(), 0);
  EXPECT_EQ(evict(), 1);
  EXPECT_EQ(sieve_.size(), 3u);
}

TEST_F(SieveTest, WhatWasUsedGetsOneMoreChance) {
  sieve_.used(&items_[0]);
  sieve_.used(&items_[2]);
  EXPECT_EQ(evict(), 1);
  EXPECT_EQ(evict(), 3);
  EXPECT_EQ(evict(), 4);
  // Its chance was the round before.
  EXPECT_EQ(evict(), 0);
  EXPECT_EQ(evict(), 2);
  EXPECT_EQ(evict(), -1);
}

TEST_F(SieveTest, WhenAllWereUsedTheOldestGoes) {
  for (int& item : items_) sieve_.used(&item);
  EXPECT_EQ(evict(), 0);
}

TEST_F(SieveTest, WhatMayNotGoStays) {
  EXPECT_EQ(*sieve_.victim([](int item) { return item == 3; }), 3);
  EXPECT_EQ(sieve_.victim([](int) { return false; }), nullptr);
  EXPECT_EQ(sieve_.size(), 5u);
}

TEST_F(SieveTest, TheHandSurvivesTheEndOfWhatItPointsAt) {
  int* first = sieve_.victim(kAny);
  int* second = sieve_.victim(kAny);
  ASSERT_EQ(*second, 1);
  sieve_.erase(second);
  sieve_.erase(first);
  EXPECT_EQ(evict(), 2);
  sieve_.insert(&items_[1]);
  EXPECT_EQ(evict(), 3);
  EXPECT_EQ(evict(), 4);
  EXPECT_EQ(evict(), 1);
  EXPECT_EQ(sieve_.victim(kAny), nullptr);
}

// A few that are used all the time stay, however many come by once.
TEST(SieveUnderLoad, KeepsWhatIsUsedOften) {
  std::array<int, 400> items{};
  for (size_t i = 0; i < items.size(); ++i) items[i] = static_cast<int>(i);
  Sieve<int> sieve;
  std::vector<bool> inside(items.size());
  std::mt19937 random(1);
  int missed = 0;
  const auto touch = [&](size_t which) {
    if (inside[which]) return sieve.used(&items[which]);
    if (which < 8) ++missed;
    if (sieve.size() == 16) {
      int* victim = sieve.victim(kAny);
      inside[static_cast<size_t>(*victim)] = false;
      sieve.erase(victim);
    }
    sieve.insert(&items[which]);
    inside[which] = true;
  };
  for (int step = 0; step < 20'000; ++step) {
    touch(random() % 8);
    if (step % 4 == 0) touch(8 + random() % (items.size() - 8));
  }
  EXPECT_LT(missed, 200) << "of 20000 uses";
}

}  // namespace
}  // namespace te::rdma
