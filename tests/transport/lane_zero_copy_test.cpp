// A lane that sends without a copy: on TCP itself, since no other socket does that. The peer takes
// so little at once that what a lane sent waits in its own socket, where the kernel holds the
// slices' memory.
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>

#include "transport/lane_harness.h"

namespace te::tcp::test {
namespace {

const AccessKey kKey =
    AccessKey::decode(reinterpret_cast<const std::byte*>("IIIIssssssssssssssss"));

class ZeroCopyLaneTest : public LaneTest {
 protected:
  static constexpr uint32_t kLength = 200 << 10;  // fits into the least that a socket is given

  void SetUp() override {
    loop_ = EventLoop::create("te-test").take();
    EXPECT_TRUE(loop_->start().ok());
    Result<Fd> listener = listen_tcp("127.0.0.1", 0, 8);
    ASSERT_TRUE(listener.ok()) << listener.status().to_string();
    listener_ = listener.take();
    const int little = 8 << 10;
    ::setsockopt(listener_.get(), SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    address_ = local_address(listener_.get());
    make_lane(ZeroCopyMode::kOn);
  }
  void TearDown() override {
    lane_->fail(Code::kCancelled);
    totals_->wait_until_none_open();
    loop_->stop();
  }

  void make_lane(ZeroCopyMode mode) {
    lane_ = std::make_shared<Lane>(*loop_, host_,
                                   std::make_shared<Path>(transport_, "", "", "the peer"), *this,
                                   LaneOptions{60'000, 60'000, mode, totals_});
  }
  // Sends it and returns once all of it left for the socket.
  Slice& send(std::string& local) {
    Slice& slice = submit(Opcode::kWrite, local);
    lane_->flush();
    EXPECT_FALSE(lane_->blocked());
    return slice;
  }
  // The frame of one WRITE arrives as it was sent.
  void expect_frame(const std::string& payload) {
    const std::string expected =
        write_frame({{0x1000, static_cast<uint32_t>(payload.size()), kKey}}, payload);
    ASSERT_TRUE(take(expected.size()) == expected);
  }
  // The lane heard of the acknowledgement, and did what is to be done.
  void wait_for_acks(uint64_t count) {
    ASSERT_TRUE(wait_until([this, count] { return lane_->acks() == count; }));
    turn();
  }

  const std::shared_ptr<ZeroCopyTotals> totals_ = std::make_shared<ZeroCopyTotals>();
};

TEST_F(ZeroCopyLaneTest, AWriteEndsWhenItIsAcknowledgedAndItsSendCompleted) {
  make_ready();
  std::string local(kLength, 'A');
  const Slice& slice = send(local);
  EXPECT_GE(totals_->sends, 1u);
  // No honest peer says so before it has the bytes.
  put(ack(1));
  wait_for_acks(1);
  EXPECT_EQ(host_.count(), 0u);
  EXPECT_EQ(lane_->load(), kLength);
  expect_frame(local);
  ASSERT_TRUE(host_.wait_for(1));
  EXPECT_EQ(host_.code_of(&slice), Code::kOk);
  EXPECT_EQ(lane_->load(), 0u);
  EXPECT_EQ(totals_->copied, totals_->sends);  // over loopback
  EXPECT_EQ(broken_, 0);
}

TEST_F(ZeroCopyLaneTest, ManyWritesInARow) {
  make_ready();
  for (int i = 0; i < 50; ++i) {
    std::string local(kLength, static_cast<char>('A' + i % 26));
    const Slice& slice = send(local);
    expect_frame(local);
    put(ack(static_cast<uint64_t>(i) + 1));
    ASSERT_TRUE(host_.wait_for(static_cast<size_t>(i) + 1));
    EXPECT_EQ(host_.code_of(&slice), Code::kOk);
    local.assign(kLength, '-');  // it is the caller's again
  }
  EXPECT_GE(totals_->sends, 50u);
  EXPECT_EQ(broken_, 0);
}

// What one send does not take at once goes on when there is room.
TEST_F(ZeroCopyLaneTest, AFullSocketIsWaitedFor) {
  make_ready();
  std::string local(8 << 20, 'L');
  const Slice& slice = submit(Opcode::kWrite, local);
  lane_->flush();
  EXPECT_TRUE(lane_->blocked());
  expect_frame(local);
  put(ack(1));
  ASSERT_TRUE(host_.wait_for(1));
  EXPECT_EQ(host_.code_of(&slice), Code::kOk);
  EXPECT_GT(totals_->sends, 1u);
}

// What is queued for long is held for long, and so would be the tasks.
TEST_F(ZeroCopyLaneTest, WhereSendsAreSlowToCompleteTheRestIsCopied) {
  make_ready();
  std::vector<std::string> local(3, std::string(64 << 10, 'A'));
  send(local[0]);
  send(local[1]);
  const uint64_t sends = totals_->sends;
  EXPECT_GE(sends, 2u);
  std::this_thread::sleep_for(std::chrono::milliseconds(15));
  send(local[2]);
  EXPECT_EQ(totals_->sends, sends);
  for (const std::string& each : local) expect_frame(each);
  put(ack(3));
  ASSERT_TRUE(host_.wait_for(3));
  // All of them have completed.
  send(local[0]);
  EXPECT_GT(totals_->sends, sends);
  expect_frame(local[0]);
}

TEST_F(ZeroCopyLaneTest, ARefusedWriteEndsWhenItsSendCompleted) {
  make_ready();
  std::string local(kLength, 'A');
  const Slice& slice = send(local);
  put(refused(0, Code::kPermission) + ack(1));
  wait_for_acks(1);
  EXPECT_EQ(host_.count(), 0u);
  expect_frame(local);
  ASSERT_TRUE(host_.wait_for(1));
  EXPECT_EQ(host_.code_of(&slice), Code::kPermission);
}

TEST_F(ZeroCopyLaneTest, ASecondRefusalBreaksIt) {
  make_ready();
  std::string local(kLength, 'A');
  send(local);
  put(refused(0, Code::kPermission) + refused(0, Code::kPermission));
  expect_broken("what was not asked");
  ASSERT_TRUE(host_.wait_for(1));
  EXPECT_EQ(host_.code_of(&requests_[0]->slice), Code::kUnavailable);
}

TEST_F(ZeroCopyLaneTest, ACallerTakesTheNotifications) {
  make_ready();
  lane_->detach();
  std::string local(kLength, 'A');
  send(local);
  put(ack(1));
  expect_frame(local);
  EXPECT_TRUE(wait_until([this] {
    lane_->take_answers();
    return host_.count() == 1;
  }));
}

// The bytes that the peer has not got were to be read from memory that is used again by now.
TEST_F(ZeroCopyLaneTest, NothingIsReadFromHereAfterItFailed) {
  make_ready();
  std::string local(kLength, 'A');
  const Slice& slice = send(local);
  lane_->fail(Code::kCancelled);
  ASSERT_TRUE(host_.wait_for(1));
  EXPECT_EQ(host_.code_of(&slice), Code::kCancelled);
  std::fill(local.begin(), local.end(), 'B');
  const std::string got = take(RequestHeader::kSize + RequestEntry::kSize + kLength);
  EXPECT_LT(got.size(), kLength) << "nothing was left, so nothing was tested";
  EXPECT_EQ(std::count(got.begin(), got.end(), 'B'), 0);
}

TEST_F(ZeroCopyLaneTest, APeerThatDiesInTheMiddleBreaksIt) {
  make_ready();
  std::string local(8 << 20, 'A');
  submit(Opcode::kWrite, local);
  lane_->flush();
  EXPECT_EQ(take(100'000).size(), 100'000u);
  peer_.reset();
  ASSERT_TRUE(host_.wait_for(1));
  expect_broken("tcp to the peer: ");
  EXPECT_EQ(host_.code_of(&requests_[0]->slice), Code::kUnavailable);
  totals_->wait_until_none_open();
}

TEST_F(ZeroCopyLaneTest, WhatIsTriedIsGivenUpWhereTheKernelCopies) {
  make_lane(ZeroCopyMode::kAuto);
  make_ready();
  std::string local(kLength, 'A');
  // Periods of 14 such frames take turns; the third one ends at once.
  for (uint64_t i = 1; i <= 60; ++i) {
    send(local);
    expect_frame(local);
    put(ack(i));
    ASSERT_TRUE(host_.wait_for(i));
  }
  EXPECT_GE(totals_->sends, ZeroCopyTrial::kReported);
  EXPECT_LT(totals_->sends, ZeroCopyTrial::kReported + 4);
  EXPECT_EQ(totals_->copied, totals_->sends);
  EXPECT_EQ(totals_->kept, 0u);
}

TEST_F(ZeroCopyLaneTest, WithoutLeaveToHoldMemoryItIsCopied) {
  make_ready();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &before), 0);
  const rlimit none{0, before.rlim_max};
  std::string local(kLength, 'A');
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &none), 0);
  std::thread([&] {
    // Only whoever may lock memory is not limited.
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none_of_them[2] = {};
    ASSERT_EQ(::syscall(SYS_capset, &header, none_of_them), 0);
    send(local);
  }).join();
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &before), 0);
  EXPECT_EQ(totals_->sends, 0u);
  EXPECT_EQ(totals_->refused, 1u);
  expect_frame(local);
  put(ack(1));
  ASSERT_TRUE(host_.wait_for(1));
  EXPECT_EQ(host_.code_of(&requests_[0]->slice), Code::kOk);
  // With leave again, the next one is not.
  send(local);
  EXPECT_GE(totals_->sends, 1u);
  expect_frame(local);
  put(ack(2));
  EXPECT_TRUE(host_.wait_for(2));
}

}  // namespace
}  // namespace te::tcp::test
