#include "transport/tcp/attachment.h"

#include <thread>

#include "transport/lane_harness.h"

namespace te::tcp::test {
namespace {

// What the loop does at a check, and how long it waits for the next one. 0: there is no next one.
int64_t check(Attachment& attachment) {
  return attachment.check_lease() ? attachment.lease_ms() : 0;
}

TEST(Attachment, AttachedUntilACallerDetachesASessionsLanes) {
  Attachment attachment;
  const auto lanes = std::make_shared<const Lanes>();
  const auto next = std::make_shared<const Lanes>();
  EXPECT_FALSE(attachment.any_detached());
  EXPECT_FALSE(attachment.is_detached(lanes));
  attachment.caller_began();
  EXPECT_TRUE(attachment.detach(lanes)) << "a lease began";
  EXPECT_TRUE(attachment.any_detached());
  EXPECT_TRUE(attachment.is_detached(lanes));
  EXPECT_FALSE(attachment.is_detached(next)) << "of the next session";
  EXPECT_FALSE(attachment.detach(next)) << "the lease goes on";
  EXPECT_TRUE(attachment.is_detached(next));
  attachment.attach();
  EXPECT_FALSE(attachment.any_detached());
  EXPECT_FALSE(attachment.is_detached(next));
}

TEST(Attachment, TheLeaseEndsWithTheFirstCheckThatNoCallerCameBefore) {
  Attachment attachment;
  const auto lanes = std::make_shared<const Lanes>();
  attachment.caller_began();
  ASSERT_TRUE(attachment.detach(lanes));
  EXPECT_EQ(attachment.lease_ms(), 1);
  std::vector<int64_t> waits;
  for (int i = 0; i < 5; ++i) {
    waits.push_back(check(attachment));
    attachment.caller_began();
  }
  EXPECT_EQ(waits, (std::vector<int64_t>{2, 4, 8, 8, 8}));
  EXPECT_EQ(check(attachment), 8);
  EXPECT_TRUE(attachment.any_detached());
  EXPECT_EQ(check(attachment), 0);
  EXPECT_FALSE(attachment.any_detached());
  attachment.caller_began();
  EXPECT_TRUE(attachment.detach(lanes));
  EXPECT_EQ(check(attachment), 2) << "the next lease is short again";
}

TEST(Attachment, TheLeaseGoesOnAfterTheLanesWereAttached) {
  Attachment attachment;
  const auto lanes = std::make_shared<const Lanes>();
  attachment.caller_began();
  ASSERT_TRUE(attachment.detach(lanes));
  EXPECT_EQ(check(attachment), 2);
  attachment.attach();
  attachment.caller_began();
  EXPECT_FALSE(attachment.detach(lanes)) << "its check is to come";
  EXPECT_EQ(check(attachment), 4);
  EXPECT_EQ(check(attachment), 0);
}

TEST(Attachment, WhatAnotherThreadPostsIsNotForTheCallerThatDetachedThem) {
  Attachment attachment;
  const auto lanes = std::make_shared<const Lanes>();
  const auto of_another_thread = [&] {
    bool result = false;
    std::thread([&] { result = attachment.detached_for_another_thread(); }).join();
    return result;
  };
  EXPECT_FALSE(of_another_thread());
  attachment.caller_began();
  (void)attachment.detach(lanes);
  EXPECT_FALSE(attachment.detached_for_another_thread());
  EXPECT_TRUE(of_another_thread());
  attachment.attach();
  EXPECT_FALSE(of_another_thread());
}

TEST_F(LaneTest, ALaneOfALeaseThatEndedIsAttachedAgain) {
  make_ready();
  Attachment attachment;
  const auto lanes = std::make_shared<const Lanes>(Lanes{lane_});
  attachment.caller_began();
  ASSERT_TRUE(attachment.detach(lanes));
  std::string local(5, '.');
  submit(Opcode::kRead, local);
  lane_->flush();
  put(data(0, 1, "hello"));
  turn();
  EXPECT_EQ(host_.count(), 0u) << "the loop took what is the caller's";
  EXPECT_EQ(check(attachment), 2);
  turn();
  EXPECT_EQ(host_.count(), 0u);
  EXPECT_EQ(check(attachment), 0);
  EXPECT_TRUE(host_.wait_for(1));
  EXPECT_EQ(local, "hello");
}

}  // namespace
}  // namespace te::tcp::test
