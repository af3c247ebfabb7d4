// Peers that stop, flood, cut off or lie in the handshake of TLS and behind it, over real sockets:
// each loses its own connection, and the engine serves the others.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cstring>
#include <optional>

#include "base/socket.h"
#include "engine/raw_peer.h"
#include "engine/security_support.h"
#include "tls/handshake.h"

namespace te::test {
namespace {

// A peer of the cluster that makes the handshake honestly.
class Insider {
 public:
  Insider(const std::string& endpoint, const tls::Files& files) : connection_(endpoint) {
    std::unique_ptr<tls::Handshake> handshake =
        tls::Handshake::make(load(files), tls::Role::kConnects).take();
    for (int i = 0; i < 20 && !sealer_; ++i) {
      const tls::Handshake::Step step = handshake->advance();
      connection_.send(handshake->take_unsent());
      if (step == tls::Handshake::Step::kDone) {
        sealer_.emplace(handshake->sealer().take());
      } else {
        handshake->receive(connection_.receive(4'096, 200));
      }
    }
  }
  bool connected() const { return sealer_.has_value(); }
  RawConnection& raw() { return connection_; }
  std::string sealed(std::string_view bytes) {
    std::string record(tls::kMaxRecord, '\0');
    std::memcpy(record.data() + tls::kHeaderSize, bytes.data(), bytes.size());
    record.resize(sealer_->seal(reinterpret_cast<std::byte*>(record.data()), bytes.size()));
    return record;
  }
  std::string key_update() {
    std::string record(tls::kMaxRecord, '\0');
    record.resize(sealer_->seal_key_update(reinterpret_cast<std::byte*>(record.data())));
    return record;
  }

 private:
  RawConnection connection_;
  std::optional<tls::RecordSealer> sealer_;
};

class HostileTls : public testing::Test {
 protected:
  explicit HostileTls(Settings more = {}) {
    Settings config = tls_settings(cluster_.member("target"));
    more.merge(config);
    target_ = make_engine(more);
    remote_ = std::make_unique<Registered>(*target_, kSize);
  }
  std::string endpoint() const { return target_->local_endpoint(); }
  testing::AssertionResult serves_others() {
    std::unique_ptr<Engine> good = make_engine(tls_settings(cluster_.member("good")));
    Registered local(*good, kSize);
    const Result<SegmentId> id = good->open_segment(endpoint());
    if (!id.ok()) return testing::AssertionFailure() << id.status().to_string();
    stamp(local.data(), kSize, 7);
    const Status why = failure_of(*good, {Opcode::kWrite, local.data(), *id, 0, kSize});
    if (!why.ok()) return testing::AssertionFailure() << why.to_string();
    if (difference(remote_->data(), kSize, 7) != kSame) {
      return testing::AssertionFailure() << "other bytes";
    }
    return testing::AssertionSuccess();
  }

  static constexpr uint64_t kSize = 1 << 20;
  const Cluster cluster_;
  std::unique_ptr<Engine> target_;
  std::unique_ptr<Registered> remote_;
};

class ImpatientTls : public HostileTls {
 protected:
  ImpatientTls() : HostileTls({{"stall_timeout_ms", "500"}, {"hello_timeout_ms", "500"}}) {}
};

TEST_F(HostileTls, AFloodOfKeyUpdatesEndsTheConnection) {
  Insider insider(endpoint(), cluster_.member("insider"));
  ASSERT_TRUE(insider.connected());
  ASSERT_TRUE(insider.raw().send(insider.sealed(control_hello())));
  size_t sent = 0;
  while (sent < 10'000 && insider.raw().send(insider.key_update())) ++sent;
  EXPECT_TRUE(insider.raw().ended_by_peer());
  EXPECT_LT(sent, 10'000u);
  EXPECT_TRUE(serves_others());
}

TEST_F(HostileTls, BytesWithoutProtectionBehindTheHandshakeEndTheConnection) {
  const Stopwatch stopwatch;
  for (const bool greeted : {false, true}) {
    Insider insider(endpoint(), cluster_.member("insider"));
    ASSERT_TRUE(insider.connected());
    if (greeted) {
      ASSERT_TRUE(insider.raw().send(insider.sealed(control_hello())));
    }
    ASSERT_TRUE(insider.raw().send(control_hello() + control_hello()));
    EXPECT_TRUE(insider.raw().ended_by_peer());
  }
  EXPECT_LT(stopwatch.ms(), 4'000) << "at once, not after a timeout";
  EXPECT_TRUE(serves_others());
}

TEST_F(ImpatientTls, HalfARecordIsWaitedForAsLongAsHalfAMessage) {
  const std::vector<std::string> begins = {"", control_hello(), data_hello(7)};
  for (const std::string& begin : begins) {
    Insider insider(endpoint(), cluster_.member("insider"));
    ASSERT_TRUE(insider.connected());
    if (!begin.empty()) {
      ASSERT_TRUE(insider.raw().send(insider.sealed(begin)));
    }
    const std::string record = insider.sealed(control_hello());
    ASSERT_TRUE(insider.raw().send(std::string_view(record).substr(0, record.size() - 1)));
    const Stopwatch stopwatch;
    EXPECT_TRUE(insider.raw().ended_by_peer()) << begin.size();
    EXPECT_GE(stopwatch.ms(), 200);
  }
  EXPECT_TRUE(serves_others());
}

// With what peers without an identity can send: nothing of it is looked at as a message.
TEST_F(ImpatientTls, WhateverComesBeforeTheHandshakeEndsTheConnection) {
  for (const std::string& bytes :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(100'000, '\x16'), control_hello(),
        std::string("\x16\x03\x01\xff\xff", 5) + std::string(70'000, 'x'),
        std::string("\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9) + std::string(300'000, 'y')}) {
    RawConnection raw(endpoint());
    (void)raw.send(bytes);
    EXPECT_TRUE(raw.ended_by_peer()) << bytes.substr(0, 16);
  }
  EXPECT_TRUE(serves_others());
}

// Ten thousand that stop in the middle of the handshake take the room of those without a hello, and
// no more.
TEST_F(ImpatientTls, TenThousandThatStopInTheHandshakeHoldLittle) {
  constexpr size_t kPeers = 10'000;
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit before = limit;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, kPeers + 4'000);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  ASSERT_GE(limit.rlim_cur, kPeers + 4'000) << "raise the hard limit: ulimit -Hn";
  const size_t resident = resident_bytes();
  const Result<HostPort> place = parse_host_port(endpoint());
  const auto address = resolve_host(place->host, place->port);
  ASSERT_TRUE(address.ok());
  const std::string begin("\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 9);
  size_t most = 0;
  {
    std::vector<Fd> silent;
    while (silent.size() < kPeers) {
      Result<Fd> fd = start_connect((*address)[0]);
      ASSERT_TRUE(fd.ok()) << silent.size() << ": " << fd.status().to_string();
      (void)!::send((*fd).get(), begin.data(), begin.size(), MSG_NOSIGNAL);
      silent.push_back(fd.take());
      if (silent.size() % 1'000 == 0) most = std::max(most, resident_bytes());
    }
    EXPECT_TRUE(eventually([this] { return bool{serves_others()}; }));
    most = std::max(most, resident_bytes());
  }
  if (!kSanitized) {
    EXPECT_LT(most - resident, size_t{128} << 20);
  }
  EXPECT_TRUE(eventually([this] { return bool{serves_others()}; }));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace te::test
