#include "limits/sockets.h"

#include <gtest/gtest.h>

#include <thread>

#include "buffers.h"
#include "limits/ping_pong.h"
#include "pattern.h"

namespace te::bench {
namespace {

constexpr std::chrono::milliseconds kShort{10};

struct Ends {
  std::vector<Socket> here;
  std::vector<Socket> there;
};

Ends connected(size_t count) {
  uint16_t port = 0;
  const Result<Socket> listener = listen_on_loopback(&port);
  if (!listener.ok()) return {};
  Result<std::vector<Socket>> there = connect_to_loopback(port, count);
  Result<std::vector<Socket>> here = accept_connections(*listener, count);
  if (!there.ok() || !here.ok()) return {};
  return {here.take(), there.take()};
}

class SocketsTest : public testing::Test {
 protected:
  SocketsTest() { tool::fill_pattern(1, 0, source_); }

  std::vector<std::byte> source_ = std::vector<std::byte>(1 << 20);
  std::vector<std::byte> sink_ = std::vector<std::byte>(1 << 20);
  std::vector<std::byte> unused_ = std::vector<std::byte>(1 << 20);
};

TEST_F(SocketsTest, StreamsArriveWhereTheyBelong) {
  Ends ends = connected(2);
  ASSERT_EQ(ends.there.size(), 2u);
  Streams sender(std::move(ends.here), source_, unused_);
  Streams receiver(std::move(ends.there), unused_, sink_);
  std::vector<uint64_t> totals(2);
  while (totals[0] < sink_.size() / 2 || totals[1] < sink_.size() / 2) {
    const Result<std::vector<uint64_t>> sent = sender.send(4096, kShort);
    ASSERT_TRUE(sent.ok());
    totals = *sent;
    ASSERT_TRUE(receiver.await(totals).ok());
  }
  EXPECT_TRUE(expect_pattern(1, 0, sink_).ok());
}

TEST_F(SocketsTest, ABrokenStreamEndsTheWaiting) {
  Ends ends = connected(1);
  ASSERT_EQ(ends.there.size(), 1u);
  auto sender = std::make_unique<Streams>(std::move(ends.here), source_, unused_);
  Streams receiver(std::move(ends.there), unused_, sink_);
  sender.reset();
  const std::vector<uint64_t> never{1};
  EXPECT_EQ(receiver.await(never).code(), Code::kUnavailable);
}

TEST_F(SocketsTest, PingsAreAnswered) {
  for (const bool spin : {false, true}) {
    Ends ends = connected(1);
    ASSERT_EQ(ends.there.size(), 1u);
    const PingPong shape{spin, 4096, 16};
    Exchanged answered;
    std::thread answering([&] { answered = answer_pings(ends.there[0], shape, unused_, sink_); });
    tool::Histogram round_trip_ns;
    const Exchanged sent = send_pings(ends.here[0], shape, source_, unused_, kShort, round_trip_ns);
    ends.here.clear();  // the end
    answering.join();
    EXPECT_TRUE(sent.ok && answered.ok);
    EXPECT_GT(sent.rounds, 0u);
    EXPECT_EQ(sent.rounds, answered.rounds);
    EXPECT_EQ(sent.rounds, round_trip_ns.count());
    const uint64_t moved = covered(sent.rounds * 4096, sink_.size());
    EXPECT_TRUE(expect_pattern(1, 0, std::span(sink_).first(moved)).ok());
  }
}

}  // namespace
}  // namespace te::bench
