#include "transport/tcp/request_receiver.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <string>
#include <string_view>

#include "transport/frames.h"
#include "transport/socket_pair.h"

namespace te::tcp::test {
namespace {

class RequestReceiverTest : public testing::Test {
 protected:
  RequestReceiverTest() { key_ = *table_.add(address(), memory_.size(), Rights::kBoth); }
  uint64_t address() { return reinterpret_cast<uint64_t>(memory_.data()); }
  Entry entry(size_t offset, uint32_t length) { return {address() + offset, length, key_}; }
  // Carries out what was put. Why it has to end.
  std::string_view take(std::string_view bytes) {
    EXPECT_EQ(::send(sockets_.peers.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
    for (;;) {
      const Stream::Outcome outcome = requests_.receive(sockets_.ours);
      if (const std::string_view why = requests_.carry_out(); !why.empty()) return why;
      if (outcome != Stream::Outcome::kMore) return {};
    }
  }
  // What it is answered.
  std::string answers() {
    EXPECT_EQ(answers_.send(sockets_.ours, false), AnswerSender::Outcome::kSent);
    std::string out(65536, '\0');
    const ssize_t got = ::recv(sockets_.peers.get(), out.data(), out.size(), 0);
    out.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return out;
  }

  std::string memory_ = std::string(4096, '.');
  AccessTable table_;
  AccessKey key_;
  SocketPair sockets_;
  AnswerSender answers_{table_};
  RequestReceiver requests_{table_, answers_};
};

TEST_F(RequestReceiverTest, RequestsAreCarriedOutInTheirOrder) {
  EXPECT_EQ(take(write_frame({entry(0, 2), entry(10, 3)}, "aabbb") + read_frame({entry(0, 2)}) +
                 write_frame({}, "")),
            "");
  EXPECT_EQ(memory_.substr(0, 13), "aa........bbb");
  EXPECT_EQ(answers(), ack(3) + data(2, 1, "aa"));
  EXPECT_FALSE(requests_.in_the_middle());
}

TEST_F(RequestReceiverTest, AFrameIsInTheMiddleUntilAllOfItCame) {
  const std::string frame = write_frame({entry(0, 4)}, "aaaa");
  for (size_t i = 0; i < frame.size(); ++i) {
    EXPECT_EQ(requests_.in_the_middle(), i > 0) << i;
    EXPECT_EQ(requests_.in_payload(), i >= frame.size() - 4) << i;
    EXPECT_EQ(take({&frame[i], 1}), "");
  }
  EXPECT_FALSE(requests_.in_the_middle());
  EXPECT_EQ(memory_.substr(0, 5), "aaaa.");
}

TEST_F(RequestReceiverTest, WhatIsNotAllowedIsRefusedAndTouchesNothing) {
  Entry wrong = entry(20, 3);
  wrong.key.secret[0] ^= 1;
  EXPECT_EQ(take(write_frame({entry(0, 1), wrong, entry(4095, 2)}, "abbbcc")), "");
  EXPECT_EQ(take(read_frame({wrong, entry(0, 1)})), "");
  EXPECT_EQ(answers(), refused(1, Code::kStale) + refused(2, Code::kOutOfRange) +
                           refused(3, Code::kStale) + ack(3) + data(4, 1, "a"));
  EXPECT_EQ(memory_, "a" + std::string(4095, '.'));
}

TEST_F(RequestReceiverTest, WhatThePeerMayNotDoIsRefusedAndTouchesNothing) {
  AnswerSender answers(table_);
  RequestReceiver requests(table_, answers, {"reader", {tls::Permission::kRead}});
  const std::string frames =
      write_frame({entry(0, 1), entry(7, 2)}, "abb") + read_frame({entry(0, 1)});
  EXPECT_EQ(::send(sockets_.peers.get(), frames.data(), frames.size(), 0),
            static_cast<ssize_t>(frames.size()));
  requests.receive(sockets_.ours);
  EXPECT_EQ(requests.carry_out(), "");
  EXPECT_EQ(answers.send(sockets_.ours, false), AnswerSender::Outcome::kSent);
  std::string out(65536, '\0');
  const ssize_t got = ::recv(sockets_.peers.get(), out.data(), out.size(), 0);
  out.resize(got > 0 ? static_cast<size_t>(got) : 0);
  EXPECT_EQ(out, refused(0, Code::kPermission) + refused(1, Code::kPermission) + ack(2) +
                     data(2, 1, "."));
  EXPECT_EQ(memory_, std::string(4096, '.'));
}

TEST_F(RequestReceiverTest, ABufferThatIsGoneInTheMiddleIsNotTouchedAnyMore) {
  const std::string frame = write_frame({entry(0, 4)}, "aaaa");
  EXPECT_EQ(take(frame.substr(0, frame.size() - 2)), "");
  table_.remove(key_);  // waits for nobody: nothing is pinned between two calls
  EXPECT_EQ(take(frame.substr(frame.size() - 2)), "");
  EXPECT_EQ(memory_.substr(0, 4), "aa..");
  EXPECT_EQ(answers(), refused(0, Code::kStale) + ack(1));
}

TEST_F(RequestReceiverTest, WhatCannotBeAnHonestPeerEndsIt) {
  EXPECT_NE(take(request_bytes(9, 1, 0, {entry(0, 1)})), "");
  for (const std::string& frame : {
           write_frame({entry(0, 0)}, ""),
           read_frame({entry(0, kMaxRequestLength + 1)}),
           request_bytes(1, 1, 7, {entry(0, 3)}),
       }) {
    AnswerSender answers(table_);
    RequestReceiver requests(table_, answers);
    EXPECT_EQ(::send(sockets_.peers.get(), frame.data(), frame.size(), 0),
              static_cast<ssize_t>(frame.size()));
    requests.receive(sockets_.ours);
    EXPECT_NE(requests.carry_out(), "");
    EXPECT_TRUE(answers.empty());
  }
}

TEST_F(RequestReceiverTest, MoreReadsThanTheWindowEndIt) {
  for (uint32_t i = 0; i < kWindow; ++i) {
    ASSERT_EQ(take(read_frame({entry(0, 1)})), "");
  }
  EXPECT_EQ(answers_.reads(), kWindow);
  EXPECT_NE(take(read_frame({entry(0, 1)})), "");
}

}  // namespace
}  // namespace te::tcp::test
