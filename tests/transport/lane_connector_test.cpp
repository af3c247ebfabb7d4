#include "transport/tcp/lane_connector.h"

#include "transport/lane_harness.h"

namespace te::tcp::test {
namespace {

using Step = LaneConnector::Step;

class LaneConnectorTest : public testing::Test {
 protected:
  LaneConnectorTest() : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    EXPECT_EQ(::bind(listener_.get(), address_.get(), address_.length), 0);
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    connector_.begin(address_, hello_, kDeadlineNs);
  }
  // Connected, and the hello sent.
  void connect() {
    stream_.drop_buffered();
    Result<Fd> fd = connector_.attempt();
    ASSERT_TRUE(fd.ok()) << fd.status().to_string();
    ours_ = tls::Connection(fd.take());
    EXPECT_FALSE(connector_.connected());
    EXPECT_EQ(advance(), Step::kWaiting);
    EXPECT_TRUE(connector_.connected());
    peers_ = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(peers_.valid());
    char bytes[wire::Hello::kSize];
    ASSERT_EQ(::recv(peers_.get(), bytes, sizeof bytes, MSG_WAITALL), ssize_t{sizeof bytes});
    const auto expected = hello_.encode();
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), bytes));
  }
  void put(std::string_view bytes) {
    ASSERT_EQ(::send(peers_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  static std::string answer(Code code, uint32_t window) {
    wire::HelloAnswer answer;
    answer.code = code;
    answer.window = window;
    const auto bytes = answer.encode();
    return {bytes.data(), bytes.size()};
  }
  Step advance() { return connector_.advance(ours_, stream_); }
  bool why_says(std::string_view what) {
    return connector_.why().message().find(what) != std::string::npos;
  }

  static constexpr int64_t kDeadlineNs = 1'000'000 * kNsPerMs;
  NullTransport transport_;
  Path path_{transport_, "", "", "the peer"};
  wire::Hello hello_{.kind = wire::ChannelKind::kTcpData, .lane = 1, .session = 5, .epoch = 6};
  SocketAddress address_ = fresh_address();
  Fd listener_, peers_;
  tls::Connection ours_;
  Stream stream_;
  LaneConnector connector_{path_};
};

TEST_F(LaneConnectorTest, ItIsLetInAndWhatFollowsStaysInTheStream) {
  connect();
  EXPECT_EQ(advance(), Step::kWaiting);
  put(answer(Code::kOk, 7) + "more");
  EXPECT_EQ(advance(), Step::kLetIn);
  EXPECT_EQ(connector_.window(), 7u);
  EXPECT_EQ(stream_.buffered().size(), 4u);
  EXPECT_TRUE(connector_.why().ok());
}

TEST_F(LaneConnectorTest, TheAnswerMayComeByteByByte) {
  connect();
  const std::string bytes = answer(Code::kOk, kWindow + 1);
  for (size_t i = 0; i < bytes.size(); ++i) {
    put({&bytes[i], 1});
    EXPECT_EQ(advance(), i + 1 < bytes.size() ? Step::kWaiting : Step::kLetIn);
  }
  EXPECT_EQ(connector_.window(), kWindow) << "it keeps no more";
}

TEST_F(LaneConnectorTest, ABusyPeerIsTriedAgainUntilTheDeadline) {
  for (int i = 0; i < 3; ++i) {
    connect();
    put(answer(Code::kBusy, 0));
    EXPECT_EQ(advance(), Step::kLost);
    EXPECT_EQ(connector_.why().code(), Code::kBusy);
    EXPECT_GE(connector_.retry_ms(connector_.why(), 1), 0);
  }
  EXPECT_EQ(connector_.retry_ms(connector_.why(), kDeadlineNs), -1);
  EXPECT_TRUE(why_says("tcp to the peer")) << connector_.why().to_string();
}

TEST_F(LaneConnectorTest, APeerThatClosesIsTriedAgainAFewTimes) {
  int again = 0;
  for (int64_t delay_ms = 0; delay_ms >= 0 && again < 100; ++again) {
    connect();
    peers_.reset();
    EXPECT_EQ(advance(), Step::kLost);
    EXPECT_TRUE(why_says("before it answered"));
    delay_ms = connector_.retry_ms(connector_.why(), 1);
  }
  EXPECT_GT(again, 1);
  EXPECT_LT(again, 100);
}

TEST_F(LaneConnectorTest, NobodyThereIsNotTriedAgain) {
  listener_.reset();
  Result<Fd> fd = connector_.attempt();
  ASSERT_FALSE(fd.ok());
  EXPECT_EQ(connector_.retry_ms(fd.status(), 1), -1);
  EXPECT_EQ(connector_.why().code(), Code::kUnavailable);
}

TEST_F(LaneConnectorTest, WhatCannotBeUsedIsRefusedForGood) {
  connect();
  put(answer(Code::kOk, 0));
  EXPECT_EQ(advance(), Step::kRefused);
  EXPECT_TRUE(why_says("allows no request"));
  connect();
  put(std::string(wire::HelloAnswer::kSize, 'x'));
  EXPECT_EQ(advance(), Step::kRefused);
  EXPECT_TRUE(why_says("tcp to the peer")) << connector_.why().to_string();
}

TEST_F(LaneConnectorTest, ARefusalKeepsItsCode) {
  connect();
  put(answer(Code::kStale, 0));
  EXPECT_EQ(advance(), Step::kLost);
  EXPECT_EQ(connector_.why().code(), Code::kStale);
  EXPECT_EQ(connector_.retry_ms(connector_.why(), 1), -1);
}

}  // namespace
}  // namespace te::tcp::test
