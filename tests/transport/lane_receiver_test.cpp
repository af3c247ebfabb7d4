#include "transport/tcp/lane_receiver.h"

#include <chrono>
#include <thread>

#include "transport/lane_parts_harness.h"

namespace te::tcp::test {
namespace {

using Outcome = LaneReceiver::Outcome;

class LaneReceiverTest : public LanePartsTest {
 protected:
  LaneReceiverTest() { start(); }
  // Asked for, and on its way.
  Slice& send(Opcode opcode, std::string& local) {
    Slice& slice = add(opcode, local, 1);
    sender_.flush();
    return slice;
  }
  void expect_misunderstood(const std::string& answer) {
    put(answer);
    EXPECT_EQ(receive(), Outcome::kMisunderstood);
    EXPECT_EQ(host_.count(), 0u);
  }
};

TEST_F(LaneReceiverTest, AnswersEndWhatTheyAnswer) {
  std::string w = "w", r = "....";
  const Slice& write = send(Opcode::kWrite, w);
  const Slice& read = send(Opcode::kRead, r);
  const Slice& bad = send(Opcode::kRead, r);
  EXPECT_EQ(receive(), Outcome::kDrained);
  put(ack(1) + data(1, 1, "da"));
  EXPECT_EQ(receive(), Outcome::kDrained);
  EXPECT_EQ(host_.code_of(&write), Code::kOk);
  EXPECT_EQ(host_.count(), 1u);
  EXPECT_EQ(requests_.acks(), 1u);
  put("ta" + refused(2, Code::kOutOfRange));
  EXPECT_EQ(receive(), Outcome::kDrained);
  EXPECT_EQ(host_.code_of(&read), Code::kOk);
  EXPECT_EQ(host_.code_of(&bad), Code::kOutOfRange);
  EXPECT_EQ(r, "data");
  EXPECT_EQ(requests_.head(), 3u);
  EXPECT_EQ(requests_.load(), 0u);
}

TEST_F(LaneReceiverTest, TheRoomThatAnswersMakeIsUsed) {
  std::string r = ".";
  requests_.set_limit(1);
  send(Opcode::kRead, r);
  send(Opcode::kRead, r);
  EXPECT_EQ(take(), read_frame({{1, 1, key_}}));
  put(data(0, 1, "x"));
  receive();
  sender_.continue_sending();
  EXPECT_EQ(take(), read_frame({{1, 1, key_}}));
}

TEST_F(LaneReceiverTest, WhatWasNotAskedForIsNotUnderstood) {
  std::string w = "w", r = "r";
  send(Opcode::kWrite, w);
  send(Opcode::kRead, r);
  for (const std::string& answer : {
           ack(3),           // of a request that was not sent
           data(0, 1, "x"),  // a WRITE has no bytes
           data(1, 2, "xy"),
           data(1, 0, ""),                  // more than is outstanding, and nothing
           refused(2, Code::kPermission),   // not sent
           refused(1, Code::kUnavailable),  // what only this side says
           answer_bytes(AnswerType{9}, Code::kOk, 0, 0),
       }) {
    receiver_.stream().drop_buffered();
    expect_misunderstood(answer);
  }
}

TEST_F(LaneReceiverTest, TheEndOfTheStreamIsReadEvenBehindAnswers) {
  std::string w = "w";
  const Slice& slice = send(Opcode::kWrite, w);
  EXPECT_NE(take(), "");
  put(ack(1));
  sockets_.peers.reset();
  EXPECT_EQ(receiver_.receive(true), Outcome::kClosed);
  EXPECT_EQ(host_.code_of(&slice), Code::kOk);
}

TEST_F(LaneReceiverTest, ACancelledReadComesBackAtOnceAndItsBytesGoNowhere) {
  std::string a = "....", b = "....";
  send(Opcode::kRead, a);
  send(Opcode::kRead, b);
  put(data(0, 2, "aa"));
  EXPECT_EQ(receive(), Outcome::kDrained);
  cancel(0);
  cancel(1);
  EXPECT_TRUE(receiver_.sweep());
  EXPECT_EQ(host_.count(), 2u);
  EXPECT_EQ(host_.code_of(&all_[1]->slice), Code::kCancelled);
  const std::string before = a;
  put("aabbbb");
  EXPECT_EQ(receive(), Outcome::kDrained);
  EXPECT_EQ(a, before);
  EXPECT_EQ(b, "....");
  EXPECT_EQ(requests_.load(), 0u);
  EXPECT_EQ(requests_.head(), 2u);
}

TEST_F(LaneReceiverTest, ACancelledWriteMayFinishForAMoment) {
  std::string w = "w";
  const Slice& slice = send(Opcode::kWrite, w);
  cancel(0);
  EXPECT_TRUE(receiver_.sweep());
  EXPECT_EQ(host_.count(), 0u) << "its memory is still read";
  std::this_thread::sleep_for(std::chrono::nanoseconds(WriteGrace::kNs));
  EXPECT_FALSE(receiver_.sweep());
  put(ack(1));
  EXPECT_EQ(receive(), Outcome::kDrained);
  EXPECT_EQ(host_.code_of(&slice), Code::kOk);
  EXPECT_TRUE(receiver_.sweep());
}

}  // namespace
}  // namespace te::tcp::test
