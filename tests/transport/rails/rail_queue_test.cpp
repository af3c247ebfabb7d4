#include "transport/rails/rail_queue.h"

#include <gtest/gtest.h>

#include <array>

#include "transport/fakes.h"

namespace te::rails {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr uint32_t kLength = 100'000;

// Two paths, none usable yet, and slices that were posted on the first.
class RailQueueTest : public testing::Test {
 protected:
  void SetUp() override {
    for (size_t i = 0; i < 2; ++i) queue_.add(paths_[i], devices_[i], 100'000'000, 1, 4);
    SliceList all;
    for (Slice& slice : slices_) {
      slice.task = &task_;
      slice.path = &paths_[0];
      slice.length = kLength;
      paths_[0].inflight_bytes += kLength;
      all.push(&slice);
    }
    task_.submission = &submission_;
    queue_.push(all);
  }

  test::NullTransport transport_;
  Submission submission_;
  Task task_;
  std::array<Path, 2> paths_{Path(transport_, "a", "", ""), Path(transport_, "b", "", "")};
  std::array<RateEstimator, 2> devices_;
  std::array<Slice, 3> slices_;
  RailQueue queue_;
};

TEST_F(RailQueueTest, NothingGoesBeforeAPathProvedItself) {
  EXPECT_EQ(queue_.choose(0, {}), RailQueue::kNone);
  EXPECT_FALSE(queue_.any_usable());
  queue_.ready(1);
  EXPECT_EQ(queue_.choose(0, {}), 1u);
  EXPECT_EQ(paths_[1].state.load(), PathState::kReady);
}

TEST_F(RailQueueTest, TheSliceMovesToThePathThatTakesIt) {
  queue_.ready(1);
  Slice* first = queue_.bind(1, 0);
  EXPECT_EQ(first, &slices_[0]);
  EXPECT_EQ(first->path, &paths_[1]);
  EXPECT_EQ(paths_[0].inflight_bytes.load(), 2 * kLength);
  EXPECT_EQ(paths_[1].inflight_bytes.load(), kLength);
  EXPECT_EQ(queue_.front(), &slices_[1]);
}

TEST_F(RailQueueTest, WhatComesBackGoesFirst) {
  queue_.ready(0);
  Slice* first = queue_.bind(0, 0);
  queue_.returned(0, first->length, kMs);
  queue_.push_front(first);
  EXPECT_EQ(queue_.front(), first);
  SliceList all = queue_.take_all();
  for (Slice& slice : slices_) EXPECT_EQ(all.pop(), &slice);
  EXPECT_TRUE(all.empty());
  EXPECT_TRUE(queue_.empty());
  queue_.push_front(first);
  EXPECT_EQ(queue_.pop(), first) << "into an empty queue";
}

TEST_F(RailQueueTest, PathsThatFailRestLongerEachTime) {
  queue_.ready(0);
  int64_t now = 0, before = 0;
  for (int i = 0; i < 12; ++i) {
    queue_.failed(0, now);
    EXPECT_FALSE(queue_.usable(0));
    EXPECT_TRUE(paths_[0].resting.load());
    EXPECT_EQ(paths_[0].state.load(), PathState::kFailed);
    const int64_t rest = queue_.rest_until_ns(0) - now;
    EXPECT_GE(rest, before);
    EXPECT_LE(rest, 5000 * kMs);
    EXPECT_TRUE(queue_.resting(0, now + rest - 1));
    EXPECT_FALSE(queue_.resting(0, now + rest));
    before = rest;
    now += rest;
    // It proves itself, but nothing gets through.
    queue_.ready(0);
    EXPECT_FALSE(queue_.doubtful(0));
    EXPECT_FALSE(paths_[0].resting.load());
  }
  EXPECT_EQ(before, 5000 * kMs);
  queue_.bind(0, now);
  queue_.completed(0, kLength, now, now + kMs);
  queue_.failed(0, now);
  EXPECT_LT(queue_.rest_until_ns(0) - now, 200 * kMs) << "after something went through";
}

TEST_F(RailQueueTest, ForgivenItMayBeTriedAtOnceButIsNotTrusted) {
  queue_.forgive(0);
  EXPECT_FALSE(queue_.doubtful(0)) << "it did not fail";
  queue_.failed(0, 100 * kMs);
  queue_.forgive(0);
  EXPECT_FALSE(queue_.resting(0, 100 * kMs));
  EXPECT_TRUE(queue_.doubtful(0));
  EXPECT_FALSE(queue_.usable(0));
}

TEST_F(RailQueueTest, PenaltiesChooseAndExclude) {
  queue_.ready(0);
  queue_.ready(1);
  EXPECT_EQ(queue_.choose(0, std::array{1.0, 1.5}), 0u);
  EXPECT_EQ(queue_.choose(0, std::array{1.5, 1.0}), 1u);
  EXPECT_EQ(queue_.choose(0, std::array{0.0, 9.0}), 1u);
  EXPECT_EQ(queue_.choose(0, std::array{0.0, 0.0}), RailQueue::kNone);
}

TEST_F(RailQueueTest, OnlyTheCancelledAreTakenOut) {
  Submission other;
  other.cancel = Code::kTimeout;
  Task cancelled;
  cancelled.submission = &other;
  slices_[1].task = &cancelled;
  SliceList out = queue_.take_cancelled();
  EXPECT_EQ(out.pop(), &slices_[1]);
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(queue_.pop(), &slices_[0]);
  EXPECT_EQ(queue_.pop(), &slices_[2]);
  EXPECT_TRUE(queue_.empty());
}

}  // namespace
}  // namespace te::rails
