// Peers that break the protocol, or use up what they can, against a live engine: a good peer's
// transfers go on all the while, and what the bad one costs stays bounded.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <random>
#include <thread>

#include "base/waker.h"
#include "core/descriptor.h"
#include "engine/pair.h"
#include "engine/raw_peer.h"

namespace te::test {
namespace {

using tcp::AnswerType;
using tcp::RequestType;

class HostilePeers : public testing::Test {
 protected:
  static constexpr size_t kGrowth = 24 << 20;

  HostilePeers()
      : pair_({{"hello_timeout_ms", "400"},
               {"stall_timeout_ms", "700"},
               {"max_inbound_connections", "300"},
               {"max_pending_connections", "100"}}),
        endpoint_(pair_.target().local_endpoint()) {
    EXPECT_TRUE(pair_.works());
    victim_ = std::make_unique<Registered>(pair_.target(), 2 << 20);
    std::memset(victim_->data(), 0x44, victim_->size());
    memory_ = resident_bytes();
    // The descriptors that waiting threads use are there before any is counted.
    Waker::of_this_thread();
    good_ = std::thread([this] {
      Waker::of_this_thread();
      for (; !over_.load(); ++rounds_) {
        if (!pair_.works()) ++wrong_;
      }
    });
    eventually([this] { return rounds_.load() > 0; });
    descriptors_ = open_descriptors();
  }

  ~HostilePeers() override {
    const int before = rounds_.load();
    EXPECT_TRUE(eventually([&] { return rounds_.load() > before + 1; }))
        << "the good peer is stuck";
    over_.store(true);
    good_.join();
    EXPECT_EQ(wrong_.load(), 0);
    EXPECT_EQ(other_than(victim_->data(), victim_->size(), std::byte{0x44}), kSame)
        << "memory was written to without a key";
    EXPECT_TRUE(eventually([this] { return open_descriptors() <= descriptors_; }))
        << open_descriptors() << " descriptors after " << descriptors_;
    if (!kSanitized) {
      EXPECT_LT(resident_bytes(), memory_ + kGrowth);
    }
  }

  // The description of the target, as any peer may ask for it.
  Descriptor describe() {
    RawConnection control(endpoint_);
    std::string body(8, '\0');
    EXPECT_TRUE(control.send(control_hello()));
    EXPECT_EQ(control.receive(wire::HelloAnswer::kSize).size(), wire::HelloAnswer::kSize);
    EXPECT_TRUE(control.send(control_request(wire::ControlType::kDescribe, body, body.size())));
    const std::string head = control.receive(wire::ControlHeader::kSize);
    const Result<wire::ControlHeader> header = wire::ControlHeader::decode(as_bytes(head));
    EXPECT_TRUE(header.ok());
    Result<Descriptor> descriptor = Descriptor::decode(control.receive(header->length));
    EXPECT_TRUE(descriptor.ok());
    return descriptor.take();
  }

  // The key of the victim's buffer.
  AccessKey victim_key() {
    const Descriptor descriptor = describe();
    uint64_t address = 0;
    const Result<size_t> buffer = descriptor.resolve({victim(), 1}, &address);
    EXPECT_TRUE(buffer.ok());
    return AccessKey::decode(
        descriptor.key(*buffer, static_cast<size_t>(descriptor.transport_index("tcp"))));
  }
  uint64_t victim() const { return reinterpret_cast<uint64_t>(victim_->data()); }

  // A data connection that was let in.
  RawConnection data_connection(int receive_buffer = 0) {
    RawConnection data(endpoint_, receive_buffer);
    EXPECT_TRUE(data.send(data_hello(++session_)));
    const std::string bytes = data.receive(wire::HelloAnswer::kSize);
    const Result<wire::HelloAnswer> answer = wire::HelloAnswer::decode(as_bytes(bytes));
    EXPECT_TRUE(answer.ok() && answer->code == Code::kOk);
    return data;
  }

  Pair pair_;
  const std::string endpoint_;
  std::unique_ptr<Registered> victim_;
  size_t memory_ = 0;
  size_t descriptors_ = 0;
  uint64_t session_ = 1'000;
  std::atomic<bool> over_{false};
  std::atomic<int> rounds_{0};
  std::atomic<int> wrong_{0};
  std::thread good_;
};

TEST_F(HostilePeers, RandomAndTruncatedBytes) {
  std::mt19937_64 random(11);
  for (int i = 0; i < 400; ++i) {
    RawConnection connection(endpoint_);
    ASSERT_TRUE(connection.connected());
    std::string bytes(random() % 3000, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    std::string begin;
    if (i % 4 == 1) begin = control_hello();
    if (i % 4 == 2) begin = data_hello(random());
    if (i % 4 == 3) begin = control_hello().substr(0, random() % wire::Hello::kSize);
    connection.send(begin + bytes);
    if (i % 8 == 0) connection.receive(10, 1);
  }
}

TEST_F(HostilePeers, FirstBytesOfAnotherKind) {
  RawConnection http(endpoint_);
  EXPECT_TRUE(http.send("GET / HTTP/1.1\r\n\r\n"));
  EXPECT_TRUE(http.ended_by_peer());

  wire::Hello future;
  future.version = 900;
  future.oldest_version = 800;
  RawConnection newer(endpoint_);
  EXPECT_TRUE(newer.send(encoded(future)));
  Result<wire::HelloAnswer> answer =
      wire::HelloAnswer::decode(as_bytes(newer.receive(wire::HelloAnswer::kSize)));
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->code, Code::kUnsupported);
  EXPECT_TRUE(newer.ended_by_peer());

  for (const auto kind : {wire::ChannelKind::kControl, wire::ChannelKind::kTcpData}) {
    wire::Hello hello;
    hello.kind = kind;
    hello.target_instance = 12345;
    RawConnection stale(endpoint_);
    EXPECT_TRUE(stale.send(encoded(hello)));
    answer = wire::HelloAnswer::decode(as_bytes(stale.receive(wire::HelloAnswer::kSize)));
    ASSERT_TRUE(answer.ok());
    EXPECT_EQ(answer->code, Code::kStale);
    EXPECT_TRUE(stale.ended_by_peer());
  }
}

TEST_F(HostilePeers, LengthsThatCannotBe) {
  for (const uint64_t claimed :
       {UINT64_MAX, uint64_t{1} << 63, uint64_t{1} << 40, uint64_t{2} << 20}) {
    RawConnection control(endpoint_);
    EXPECT_TRUE(control.send(control_hello()));
    control.receive(wire::HelloAnswer::kSize);
    EXPECT_TRUE(control.send(control_request(wire::ControlType::kPing, "x", claimed)));
    EXPECT_TRUE(control.ended_by_peer()) << claimed;
  }
  const AccessKey key = victim_key();
  struct Bad {
    RequestType type;
    uint16_t count;
    uint64_t payload;
    uint32_t length;
  };
  for (const Bad& bad : std::vector<Bad>{{RequestType::kWrite, 1, UINT64_MAX, 100},
                                         {RequestType::kWrite, 1, 99, 100},
                                         {RequestType::kWrite, 2, 100, 100},
                                         {RequestType::kWrite, 0, 1, 100},
                                         {RequestType::kRead, 0, 0, 100},
                                         {RequestType::kWrite, 1, 0, 0},
                                         {RequestType::kWrite, 1, UINT32_MAX, UINT32_MAX},
                                         {RequestType::kRead, 1, 0, 0},
                                         {RequestType::kRead, 1, 5, 100},
                                         {RequestType::kRead, 1, 0, UINT32_MAX},
                                         {RequestType::kRead, 129, 0, 100},
                                         {static_cast<RequestType>(9), 1, 0, 100}}) {
    RawConnection data = data_connection();
    data.send(request_frame(bad.type, bad.count, bad.payload, victim(), bad.length, key));
    EXPECT_TRUE(data.ended_by_peer()) << static_cast<int>(bad.type) << " " << bad.count << " "
                                      << bad.payload << " " << bad.length;
  }
  // More READs than may be outstanding.
  RawConnection data = data_connection();
  for (int i = 0; i < 64; ++i) {
    if (!data.send(request_frame(RequestType::kRead, 128, 0, victim(), 1 << 20, key))) break;
  }
  EXPECT_TRUE(data.ended_by_peer());
}

TEST_F(HostilePeers, KeysThatAreWrong) {
  const AccessKey right = victim_key();
  AccessKey guessed = right;
  guessed.secret[15] ^= 1;
  AccessKey elsewhere = right;
  elsewhere.index = 16'000'000;
  AccessKey beyond = right;
  beyond.index = UINT32_MAX;
  const std::string payload(100, '\xEE');
  for (const AccessKey& key : {AccessKey(), guessed, elsewhere, beyond}) {
    RawConnection data = data_connection();
    ASSERT_TRUE(
        data.send(request_frame(RequestType::kWrite, 1, 100, victim(), 100, key) + payload));
    tcp::AnswerHeader answer = receive_answer(data);
    EXPECT_EQ(answer.type, AnswerType::kError);
    EXPECT_EQ(answer.code, Code::kStale);
    while (answer.type == AnswerType::kError && answer.sequence == 0) answer = receive_answer(data);
    ASSERT_TRUE(data.send(request_frame(RequestType::kRead, 1, 0, victim(), 100, key)));
    answer = receive_answer(data);
    EXPECT_EQ(answer.type, AnswerType::kError);
    EXPECT_EQ(answer.code, Code::kStale);
    EXPECT_EQ(answer.sequence, 1u);
  }
  // The right key opens its own range only.
  for (const uint64_t address :
       {victim() - 1, victim() + (2 << 20) - 99, pair_.address(), uint64_t{0}, UINT64_MAX - 50}) {
    RawConnection data = data_connection();
    ASSERT_TRUE(
        data.send(request_frame(RequestType::kWrite, 1, 100, address, 100, right) + payload));
    const tcp::AnswerHeader answer = receive_answer(data);
    EXPECT_EQ(answer.type, AnswerType::kError);
    EXPECT_EQ(answer.code, Code::kOutOfRange);
  }
}

TEST_F(HostilePeers, SlowSendersAreSentAway) {
  const AccessKey key = victim_key();
  std::vector<RawConnection> slow;
  slow.emplace_back(endpoint_);
  slow.emplace_back(endpoint_);
  ASSERT_TRUE(slow.back().send(control_hello().substr(0, 20)));
  slow.emplace_back(endpoint_);
  ASSERT_TRUE(slow.back().send(control_hello() + std::string(10, '\1')));
  slow.push_back(data_connection());
  ASSERT_TRUE(slow.back().send(std::string(3, '\1')));
  slow.push_back(data_connection());
  ASSERT_TRUE(slow.back().send(
      request_frame(RequestType::kWrite, 1, 1 << 20, victim(), 1 << 20, key) + "DDDD"));
  for (size_t i = 0; i < slow.size(); ++i) EXPECT_TRUE(slow[i].ended_by_peer(5'000)) << i;
}

TEST_F(HostilePeers, ASlowWriteDoesNotHoldItsBuffer) {
  RawConnection slow = data_connection();
  ASSERT_TRUE(
      slow.send(request_frame(RequestType::kWrite, 1, 1 << 20, victim(), 1 << 20, victim_key()) +
                std::string(5'000, 'D')));
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  const Stopwatch watch;
  ASSERT_TRUE(pair_.target().unregister_memory(victim_->data()).ok());
  EXPECT_LT(watch.ms(), 400);
  std::memset(victim_->data(), 0x44, victim_->size());
  slow.send(std::string(1 << 20, 'D'));
  slow.ended_by_peer(1'000);
  EXPECT_EQ(other_than(victim_->data(), victim_->size(), std::byte{0x44}), kSame);
  ASSERT_TRUE(pair_.target().register_memory(victim_->data(), victim_->size()).ok());
}

TEST_F(HostilePeers, WhoNeverReadsItsAnswersIsSentAway) {
  constexpr int kReceiveBuffer = 4'096;
  const AccessKey key = victim_key();
  std::vector<RawConnection> deaf;
  // Small errors by the hundred thousand, as far as they are taken.
  const std::string frame = request_frame(RequestType::kRead, 128, 0, victim(), 9, AccessKey());
  std::string frames;
  frames.reserve(4'000 * frame.size());
  for (int k = 0; k < 4'000; ++k) frames += frame;
  const std::string ping =
      control_request(wire::ControlType::kPing, std::string(1 << 20, 'p'), 1 << 20);
  for (int i = 0; i < 8; ++i) {
    deaf.push_back(data_connection(kReceiveBuffer));
    deaf.back().send(request_frame(RequestType::kRead, 64, 0, victim(), 2 << 20, key));
    deaf.push_back(data_connection(kReceiveBuffer));
    deaf.back().send(frames, 200);
    deaf.emplace_back(endpoint_, kReceiveBuffer);
    deaf.back().send(control_hello());
    for (int k = 0; k < 16 && deaf.back().send(ping, 200); ++k) {
    }
  }
  if (!kSanitized) {
    EXPECT_LT(resident_bytes(), memory_ + 3 * kGrowth);
  }
  // The target lets go of its ends while these still hold theirs.
  EXPECT_TRUE(eventually([&] { return open_descriptors() <= descriptors_ + deaf.size(); }))
      << open_descriptors() << " descriptors, " << descriptors_ << " before these " << deaf.size()
      << " came";
}

TEST_F(HostilePeers, TenThousandConnections) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 8192);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  constexpr int kWaves = kSanitized ? 3 : 20;
  for (int wave = 0; wave < kWaves; ++wave) {
    std::vector<RawConnection> connections;
    for (int i = 0; i < 500 && connections.size() < limit.rlim_cur / 4; ++i) {
      connections.emplace_back(endpoint_);
      // Silent ones, ones that come in as far as they are let, and ones in between.
      if (i % 3 == 1) connections.back().send(control_hello());
      if (i % 3 == 2) connections.back().send(data_hello(++session_));
    }
    const int before = rounds_.load();
    EXPECT_TRUE(eventually([&] { return rounds_.load() > before; }));
  }
}

}  // namespace
}  // namespace te::test
