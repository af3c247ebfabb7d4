#include "transport/tcp/lane_requests.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "support/fragile_memory.h"
#include "transport/fakes.h"

namespace te::tcp::test {
namespace {

struct Request {
  Submission submission;
  Task task;
  Slice slice;
};

class LaneRequestsTest : public testing::Test {
 protected:
  Slice* add(Opcode opcode, std::byte* local, uint32_t length) {
    auto request = std::make_unique<Request>();
    request->task.submission = &request->submission;
    request->slice.task = &request->task;
    request->slice.opcode = opcode;
    request->slice.local = local;
    request->slice.length = length;
    request->slice.key = reinterpret_cast<const std::byte*>("IIIIssssssssssssssss");
    all_.push_back(std::move(request));
    SliceList list;
    list.push(&all_.back()->slice);
    EXPECT_TRUE(requests_.enqueue(list, length));
    return &all_.back()->slice;
  }
  Slice* add(Opcode opcode, uint32_t length = 10) { return add(opcode, memory_, length); }
  // How many requests the next frame has, which leaves at once.
  size_t send() {
    requests_.take(frame_);
    requests_.frame_left(0);
    return frame_.count();
  }
  void answer(uint64_t sequence, Code code = Code::kOk) {
    requests_.answer(requests_.at(sequence), code);
    requests_.advance_head();
  }
  void cancel(size_t i) { all_[i]->submission.cancel = Code::kCancelled; }

  std::byte memory_[64] = {};
  te::test::RecordingHost host_;
  LaneRequests requests_{host_};
  OutgoingFrame frame_;
  std::vector<std::unique_ptr<Request>> all_;
};

TEST_F(LaneRequestsTest, TheirBytesCountUntilTheyAreAnswered) {
  EXPECT_FALSE(requests_.may_send());
  const Slice* first = add(Opcode::kWrite, 10);
  const Slice* second = add(Opcode::kRead, 20);
  EXPECT_TRUE(requests_.may_send());
  EXPECT_EQ(requests_.load(), 30u);
  EXPECT_EQ(send(), 1u);
  EXPECT_EQ(send(), 1u);
  EXPECT_EQ(send(), 0u);
  EXPECT_FALSE(requests_.may_send());
  EXPECT_EQ(requests_.load(), 30u);
  answer(1, Code::kPermission);
  EXPECT_EQ(requests_.head(), 0u) << "the oldest is not answered";
  EXPECT_EQ(requests_.load(), 10u);
  answer(0);
  EXPECT_EQ(requests_.head(), 2u);
  EXPECT_EQ(requests_.answered(), 2u);
  EXPECT_EQ(requests_.load(), 0u);
  EXPECT_EQ(host_.code_of(first), Code::kOk);
  EXPECT_EQ(host_.code_of(second), Code::kPermission);
}

TEST_F(LaneRequestsTest, NoMoreAreOutstandingThanThePeerAllows) {
  requests_.set_limit(3);
  for (int i = 0; i < 5; ++i) add(Opcode::kRead);
  EXPECT_EQ(send(), 3u);
  EXPECT_FALSE(requests_.may_send());
  EXPECT_EQ(send(), 0u);
  answer(1);
  EXPECT_FALSE(requests_.may_send()) << "those outstanding are counted from the oldest";
  answer(0);
  EXPECT_TRUE(requests_.may_send());
  EXPECT_EQ(send(), 2u);
  EXPECT_EQ(requests_.tail(), 5u);
}

TEST_F(LaneRequestsTest, TheRingIsUsedAgain) {
  for (uint64_t i = 0; i < 3 * kWindow; ++i) {
    const Slice* slice = add(Opcode::kRead);
    ASSERT_EQ(send(), 1u);
    ASSERT_EQ(requests_.at(i).slice, slice);
    ASSERT_FALSE(requests_.at(i).answered);
    answer(i);
  }
  EXPECT_EQ(host_.count(), 3 * kWindow);
}

TEST_F(LaneRequestsTest, AFrameIsUnderWayUntilItLeft) {
  add(Opcode::kWrite);
  requests_.take(frame_);
  EXPECT_EQ(requests_.tail(), 1u);
  EXPECT_EQ(requests_.sent_tail(), 0u);
  requests_.frame_left(7);
  EXPECT_EQ(requests_.sent_tail(), 1u);
  EXPECT_EQ(requests_.at(0).completed_below, 7u);
}

TEST_F(LaneRequestsTest, WhatIsQueuedAndCancelledComesBackTheRestStays) {
  for (int i = 0; i < 3; ++i) add(Opcode::kWrite);
  cancel(1);
  requests_.return_cancelled();
  EXPECT_EQ(host_.count(), 1u);
  EXPECT_EQ(host_.code_of(&all_[1]->slice), Code::kCancelled);
  EXPECT_EQ(requests_.load(), 20u);
  EXPECT_EQ(send(), 2u);
  cancel(0);
  requests_.return_cancelled();
  EXPECT_EQ(host_.count(), 1u) << "it is under way";
}

TEST_F(LaneRequestsTest, WhatCameBackBeforeItsAnswerDoesNotComeBackAgain) {
  add(Opcode::kRead);
  send();
  requests_.give_back(requests_.at(0), Code::kCancelled);
  EXPECT_EQ(requests_.load(), 10u) << "its answer is to come";
  answer(0);
  EXPECT_EQ(requests_.load(), 0u);
  EXPECT_EQ(host_.count(), 1u);
  EXPECT_EQ(host_.code_of(&all_[0]->slice), Code::kCancelled);
}

TEST_F(LaneRequestsTest, WritesOfUnreadableMemoryAreLeftOutOfAWholeFrame) {
  te::test::FragileMemory fragile(8192);
  add(Opcode::kWrite);
  add(Opcode::kWrite, fragile.data() + 4096, 64);
  const Slice* last = add(Opcode::kWrite, 30);
  requests_.take(frame_);
  EXPECT_FALSE(requests_.leave_out_unreadable(frame_)) << "all of it can be read";
  EXPECT_EQ(frame_.count(), 3u);
  ASSERT_TRUE(fragile.damage(te::test::Damage::kProtected, 4096, 4096));
  EXPECT_TRUE(requests_.leave_out_unreadable(frame_));
  EXPECT_EQ(frame_.count(), 2u);
  EXPECT_EQ(host_.count(), 1u);
  EXPECT_EQ(host_.code_of(&all_[1]->slice), Code::kInvalidArgument);
  EXPECT_EQ(requests_.load(), 40u);
  EXPECT_EQ(requests_.tail(), 2u);
  EXPECT_EQ(requests_.at(1).slice, last);
  ASSERT_TRUE(fragile.restore());
}

TEST_F(LaneRequestsTest, EverythingComesBackOnceAndNothingIsTakenAfterwards) {
  te::test::FragileMemory fragile(8192);
  for (int i = 0; i < 3; ++i) add(Opcode::kRead);
  send();
  answer(0);
  requests_.give_back(requests_.at(1), Code::kCancelled);
  add(Opcode::kWrite, fragile.data() + 4096, 64);
  add(Opcode::kWrite);
  requests_.take(frame_);
  ASSERT_TRUE(fragile.damage(te::test::Damage::kProtected, 4096, 4096));
  requests_.blame_unreadable();
  add(Opcode::kRead);
  requests_.return_all(Code::kStale);
  ASSERT_EQ(host_.count(), 6u);
  const Code expected[] = {Code::kOk,    Code::kCancelled, Code::kStale, Code::kInvalidArgument,
                           Code::kStale, Code::kStale};
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(host_.code_of(&all_[i]->slice), expected[i]) << i;
  EXPECT_EQ(requests_.load(), 0u);
  Slice late;
  SliceList list;
  list.push(&late);
  EXPECT_FALSE(requests_.enqueue(list, 1));
  EXPECT_FALSE(list.empty());
  EXPECT_EQ(requests_.load(), 0u);
  ASSERT_TRUE(fragile.restore());
}

}  // namespace
}  // namespace te::tcp::test
