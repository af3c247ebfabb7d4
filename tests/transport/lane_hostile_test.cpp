// Peers that answer what was not asked: no crash, no byte where none was wanted, and every slice
// comes back exactly once.
#include <random>

#include "transport/lane_harness.h"

namespace te::tcp::test {
namespace {

using namespace std::string_literals;

class HostileLane : public LaneTest {
 protected:
  // Four requests under way: WRITE, READ, READ, WRITE.
  void start() {
    make_ready();
    submit(Opcode::kWrite, memory_[0]);
    submit(Opcode::kRead, memory_[1]);
    submit(Opcode::kRead, memory_[2]);
    submit(Opcode::kWrite, memory_[3]);
    lane_->flush();
    take(write_frame({{}}, "1234").size() * 2 + read_frame({{}, {}}).size());
  }
  void restart() {
    lane_->fail(Code::kCancelled);
    turn();
    lane_.reset();
    peer_.reset();
    host_.forget();
    requests_.clear();
    ready_ = false;
    broken_ = 0;
    for (std::string& local : memory_) local = "....";
    make_lane();
    start();
  }
  std::string memory_[4] = {"....", "....", "....", "...."};
};

TEST_F(HostileLane, WhatWasNotAskedBreaksIt) {
  const std::pair<const char*, std::string> cases[] = {
      {"an ack of what was not sent", ack(5)},
      {"an ack of everything there could be", ack(UINT64_MAX)},
      {"data for a WRITE", data(0, 1, "xxxx")},
      {"data for READs and a WRITE", data(1, 3, "xxxxyyyyzzzz")},
      {"data for nothing", data(1, 0, "")},
      {"data for more than there is", data(1, 4, "xxxx")},
      {"data for more than the window", data(1, kWindow + 1, "xxxx")},
      {"data for everything", data(1, UINT32_MAX, "xxxx")},
      {"data of what was not sent", data(4, 1, "xxxx")},
      {"data far away", data(UINT64_MAX, 1, "xxxx")},
      {"data that wraps", data(UINT64_MAX, 3, "xxxx")},
      {"the same data twice", data(1, 1, "xxxx") + data(1, 1, "yyyy")},
      {"data after its refusal", refused(2, Code::kStale) + data(2, 1, "yyyy")},
      {"data for one refused and one not", refused(2, Code::kStale) + data(1, 2, "xxxxyyyy")},
      {"a refusal of what was not sent", refused(4, Code::kStale)},
      {"a refusal far away", refused(UINT64_MAX, Code::kStale)},
      {"a refusal twice", refused(2, Code::kStale) + refused(2, Code::kStale)},
      {"a refusal after its data", data(1, 1, "xxxx") + refused(1, Code::kStale)},
      {"a refusal after its ack", ack(1) + refused(0, Code::kStale)},
      {"a refusal without a reason", refused(1, Code::kOk)},
      {"a refusal that only a lost connection gives", refused(1, Code::kUnavailable)},
      {"an unknown answer", answer_bytes(static_cast<AnswerType>(0), Code::kOk, 0, 0)},
      {"another unknown answer", answer_bytes(static_cast<AnswerType>(4), Code::kOk, 1, 1)},
      {"noise", std::string(64, '\xff')},
  };
  for (const auto& [what, bytes] : cases) {
    SCOPED_TRACE(what);
    restart();
    put(bytes);
    expect_broken("the peer answered what was not asked");
    ASSERT_TRUE(host_.wait_for(4));
    turn();
    EXPECT_EQ(broken_, 1);
    EXPECT_EQ(host_.count(), 4u);
    EXPECT_EQ(memory_[0] + memory_[3], "........");
  }
}

TEST_F(HostileLane, UnknownCodesAreInternal) {
  start();
  put("\x03\xff\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0"s);
  ASSERT_TRUE(host_.wait_for(1));
  EXPECT_EQ(host_.code_of(&requests_[1]->slice), Code::kInternal);
  EXPECT_EQ(broken_, 0);
}

TEST_F(HostileLane, AcksThatGoBackOrRepeatChangeNothing) {
  start();
  put(ack(1) + ack(1) + ack(0) + ack(2) + ack(1) + data(1, 2, "xxxxyyyy") + ack(4) + ack(3));
  ASSERT_TRUE(host_.wait_for(4));
  turn();
  EXPECT_EQ(broken_, 0);
  for (const auto& request : requests_) EXPECT_EQ(host_.code_of(&request->slice), Code::kOk);
  EXPECT_EQ(memory_[1] + memory_[2], "xxxxyyyy");
}

// Once it is broken, nothing that is still in the socket counts: a slice that came back because of
// it would be somebody else's memory when the rest arrives.
TEST_F(HostileLane, NothingCountsAfterItIsBroken) {
  fail_when_broken_ = false;  // the owner takes its time
  start();
  put(data(1, 3, "") + refused(1, Code::kStale) + ack(4));
  expect_broken("the peer answered what was not asked");
  settle();
  put(data(1, 2, "xxxxyyyy") + std::string(64, 'z'));
  turn();
  turn();
  EXPECT_EQ(broken_, 1);
  EXPECT_EQ(host_.count(), 0u);
  EXPECT_EQ(memory_[0] + memory_[1] + memory_[2] + memory_[3], "................");
  lane_->fail(Code::kUnavailable);
  ASSERT_TRUE(host_.wait_for(4));
  for (const auto& request : requests_) {
    EXPECT_EQ(host_.code_of(&request->slice), Code::kUnavailable);
  }
}

TEST_F(HostileLane, HelloAnswersThatAreNone) {
  for (const std::string& bytes :
       {std::string(wire::HelloAnswer::kSize, '\0'), std::string(wire::HelloAnswer::kSize, '\xff'),
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"s}) {
    broken_ = 0;
    make_lane();
    connect();
    put(bytes);
    expect_broken("tcp to the peer: ");
    EXPECT_EQ(why().code(), Code::kProtocol);
    EXPECT_FALSE(ready_);
  }
}

// Right answers with random damage, cut anywhere.
TEST_F(HostileLane, RandomDamage) {
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    restart();
    std::string bytes = ack(1) + data(1, 2, "xxxxyyyy") + ack(4);
    for (uint32_t damage = random() % 4; damage > 0; --damage) {
      bytes[random() % bytes.size()] = static_cast<char>(random() % 6);
    }
    const size_t cut = random() % (bytes.size() + 1);
    put(bytes.substr(0, cut));
    if (random() % 2 == 0) settle();
    // The lane may be gone by now.
    (void)!::send(peer_.get(), bytes.data() + cut, bytes.size() - cut, MSG_NOSIGNAL);
    peer_.reset();
    ASSERT_TRUE(host_.wait_for(4));
    turn();
    EXPECT_EQ(host_.count(), 4u);
    EXPECT_EQ(memory_[0] + memory_[3], "........");
  }
}

}  // namespace
}  // namespace te::tcp::test
