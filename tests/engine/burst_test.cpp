// Many peers that come at one moment, more than a target takes at once: every honest one gets in,
// or is told to try again, and none is cut off.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>

#include "base/log.h"
#include "base/socket.h"
#include "engine/pair.h"
#include "engine/raw_peer.h"

namespace te::test {
namespace {

constexpr int kMany = 120;

wire::HelloAnswer answer_of(RawConnection& connection) {
  const std::string bytes = connection.receive(wire::HelloAnswer::kSize);
  Result<wire::HelloAnswer> answer = wire::HelloAnswer::decode(as_bytes(bytes));
  wire::HelloAnswer none;
  none.code = Code::kInternal;
  return answer.ok() ? *answer : none;
}

TEST(Burst, WhoSaysHelloAtOnceIsLetIn) {
  const std::unique_ptr<Engine> target = make_engine({{"max_pending_connections", "4"}});
  std::vector<RawConnection> peers;
  for (int i = 0; i < kMany; ++i) {
    peers.emplace_back(target->local_endpoint());
    ASSERT_TRUE(peers.back().connected());
    ASSERT_TRUE(peers.back().send(i % 2 == 0 ? control_hello() : data_hello(1'000 + i)));
  }
  for (int i = 0; i < kMany; ++i) EXPECT_EQ(answer_of(peers[i]).code, Code::kOk) << i;
}

// Their hello comes when the room is long full, and some wait in the kernel's queue.
TEST(Burst, WhoIsSlowGetsAnAnswerAndNoReset) {
  const std::unique_ptr<Engine> target = make_engine({{"max_pending_connections", "4"}});
  std::vector<RawConnection> peers;
  for (int i = 0; i < kMany; ++i) {
    peers.emplace_back(target->local_endpoint());
    ASSERT_TRUE(peers.back().connected());
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  for (RawConnection& peer : peers) peer.send(control_hello());
  int let_in = 0, busy = 0;
  for (RawConnection& peer : peers) {
    const Code code = answer_of(peer).code;
    let_in += code == Code::kOk ? 1 : 0;
    busy += code == Code::kBusy ? 1 : 0;
  }
  EXPECT_EQ(let_in + busy, kMany);
  EXPECT_GT(let_in, kMany / 2);
}

// Silent connections from one address do not keep a peer of another address out, though none of
// them has had the time that a hello may take.
TEST(Burst, SilentOnesOfOneAddressMakeRoomForOthers) {
  const std::map<std::string, std::string> config = {{"max_pending_connections", "16"},
                                                     {"hello_timeout_ms", "600000"},
                                                     {"connect_timeout_ms", "15000"}};
  const std::unique_ptr<Engine> target = make_engine(config);
  const Result<HostPort> at = parse_host_port(target->local_endpoint());
  ASSERT_TRUE(at.ok());
  const SocketAddress to = resolve_host(at->host, at->port)->front();
  SocketAddress from = resolve_host("127.0.0.2", 0)->front();
  std::vector<Fd> silent;
  for (int i = 0; i < 64; ++i) {
    silent.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(silent.back().get(), from.get(), from.length), 0);
    ASSERT_EQ(::connect(silent.back().get(), to.get(), to.length), 0);
  }
  const std::unique_ptr<Engine> honest = make_engine(config);
  const Result<SegmentId> opened = honest->open_segment(target->local_endpoint());
  EXPECT_TRUE(opened.ok()) << opened.status().to_string();
}

// Nor do those that wait in the kernel's queue keep out a peer of their own address.
TEST(Burst, SilentOnesOfOneAddressMakeRoomForAnotherOfTheSame) {
  const std::map<std::string, std::string> config = {{"max_pending_connections", "4"},
                                                     {"hello_timeout_ms", "600000"},
                                                     {"connect_timeout_ms", "15000"}};
  const std::unique_ptr<Engine> target = make_engine(config);
  std::vector<RawConnection> silent;
  for (int i = 0; i < 800; ++i) {
    silent.emplace_back(target->local_endpoint());
    ASSERT_TRUE(silent.back().connected());
  }
  const std::unique_ptr<Engine> honest = make_engine(config);
  const Result<SegmentId> opened = honest->open_segment(target->local_endpoint());
  EXPECT_TRUE(opened.ok()) << opened.status().to_string();
}

class BurstOver : public testing::TestWithParam<const char*> {};

TEST_P(BurstOver, EnginesAllOpenWarmUpAndRead) {
  constexpr int kEngines = kSanitized ? 6 : 24;
  constexpr uint64_t kBytes = 65'536;
  const std::map<std::string, std::string> config = {{"max_pending_connections", "2"},
                                                     {"tcp_threads", "1"},
                                                     {"copy_threads", "1"},
                                                     {"tcp_connections", "8"},
                                                     {"connect_timeout_ms", "10000"}};
  const std::unique_ptr<Engine> target = make_engine(config, GetParam());
  const Registered remote(*target, kBytes);
  stamp(const_cast<Registered&>(remote).data(), kBytes, 5);
  std::vector<std::unique_ptr<Engine>> engines;
  for (int i = 0; i < kEngines; ++i) engines.push_back(make_engine(config, GetParam()));
  std::atomic<int> ready{0}, right{0};
  std::vector<std::thread> threads;
  for (const std::unique_ptr<Engine>& engine : engines) {
    threads.emplace_back([&] {
      Registered local(*engine, kBytes);
      for (++ready; ready.load() < kEngines;) std::this_thread::yield();
      const Result<SegmentId> segment = engine->open_segment(target->local_endpoint());
      ASSERT_TRUE(segment.ok()) << segment.status().to_string();
      const Status warm = engine->warmup_segment(target->local_endpoint());
      EXPECT_TRUE(warm.ok()) << warm.to_string();
      const TransferStatus status =
          transfer(*engine, {{Opcode::kRead, local.data(), *segment, 0, kBytes}});
      EXPECT_EQ(status.state, TaskState::kCompleted);
      right += difference(local.data(), kBytes, 5) == kSame ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right.load(), kEngines);
}

INSTANTIATE_TEST_SUITE_P(Tcp, BurstOver, testing::Values("tcp"));
INSTANTIATE_TEST_SUITE_P(Shm, BurstOver, testing::Values("shm"));

// A connection from an address of this machine's loopback network.
Fd connect_from(const std::string& address, const Engine& target) {
  const Result<HostPort> at = parse_host_port(target.local_endpoint());
  const SocketAddress to = resolve_host(at->host, at->port)->front();
  const SocketAddress from = resolve_host(address, 0)->front();
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(fd.get(), from.get(), from.length), 0);
  EXPECT_EQ(::connect(fd.get(), to.get(), to.length), 0);
  return fd;
}

// Says hello and stays idle; what it is told.
Code stay(const Fd& connection, const std::string& hello = control_hello()) {
  EXPECT_EQ(::send(connection.get(), hello.data(), hello.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(hello.size()));
  std::array<std::byte, wire::HelloAnswer::kSize> bytes{};
  EXPECT_EQ(::recv(connection.get(), bytes.data(), bytes.size(), MSG_WAITALL),
            static_cast<ssize_t>(bytes.size()));
  const Result<wire::HelloAnswer> answer = wire::HelloAnswer::decode(bytes);
  return answer.ok() ? answer->code : Code::kProtocol;
}

TEST(Burst, IdleOnesOfOneAddressDoNotTakeEveryConnection) {
  const std::unique_ptr<Engine> target = make_engine({{"max_inbound_connections", "8"}});
  std::vector<Fd> idle;
  for (int i = 0; i < 12; ++i) {
    idle.push_back(connect_from("127.0.0.2", *target));
    const Code code = stay(idle.back());
    // Beyond its share it gets only what was idle for a second.
    EXPECT_TRUE(code == Code::kOk || (i >= 6 && code == Code::kBusy)) << i;
  }
  const std::unique_ptr<Engine> honest = make_engine({{"connect_timeout_ms", "15000"}});
  const Result<SegmentId> opened = honest->open_segment(target->local_endpoint());
  EXPECT_TRUE(opened.ok()) << opened.status().to_string();
}

TEST(Burst, IdleOnesOfManyAddressesMakePlace) {
  const std::unique_ptr<Engine> target = make_engine({{"max_inbound_connections", "8"}});
  std::vector<Fd> idle;
  for (int i = 0; i < 8; ++i) {
    idle.push_back(connect_from(fmt::format("127.0.0.{}", i + 2), *target));
    EXPECT_EQ(stay(idle.back()), Code::kOk) << i;
  }
  const std::unique_ptr<Engine> honest = make_engine({{"connect_timeout_ms", "15000"}});
  const Result<SegmentId> opened = honest->open_segment(target->local_endpoint());
  EXPECT_TRUE(opened.ok()) << opened.status().to_string();
  // The one that was idle longest went.
  char byte = 0;
  EXPECT_EQ(::recv(idle.front().get(), &byte, 1, 0), 0);
  EXPECT_EQ(::recv(idle.back().get(), &byte, 1, MSG_DONTWAIT), -1);
}

TEST(Burst, IdleDataConnectionsMakePlace) {
  const std::unique_ptr<Engine> target = make_engine({{"max_inbound_connections", "8"}});
  Registered remote(*target, 4096);
  stamp(remote.data(), remote.size(), 6);
  std::vector<Fd> idle;
  for (int i = 0; i < 8; ++i) {
    idle.push_back(connect_from(fmt::format("127.0.0.{}", i / 2 + 2), *target));
    EXPECT_EQ(stay(idle.back(), data_hello(7'000 + i)), Code::kOk) << i;
  }
  const std::unique_ptr<Engine> honest = make_engine(
      {{"connect_timeout_ms", "15000"}, {"tcp_connections", "1"}, {"retry_window_ms", "15000"}});
  Registered local(*honest, 4096);
  const Result<SegmentId> opened = honest->open_segment(target->local_endpoint());
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  EXPECT_EQ(transfer(*honest, {{Opcode::kRead, local.data(), *opened, 0, 4096}}).state,
            TaskState::kCompleted);
  EXPECT_EQ(difference(local.data(), local.size(), 6), kSame);
}

// More engines of one address than it gets connections: each gives its place up while it is idle,
// and comes back without failing a task.
TEST(Burst, EnginesWhoseIdleConnectionsMadePlaceComeBack) {
  constexpr int kEngines = 4;
  const std::map<std::string, std::string> config = {{"max_inbound_connections", "5"},
                                                     {"connect_timeout_ms", "30000"},
                                                     {"retry_window_ms", "30000"},
                                                     {"tcp_connections", "1"}};
  const std::unique_ptr<Engine> target = make_engine(config);
  Registered remote(*target, 4096);
  std::vector<std::unique_ptr<Engine>> engines;
  for (int i = 0; i < kEngines; ++i) engines.push_back(make_engine(config));
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < kEngines; ++i) {
      Engine& engine = *engines[i];
      Registered local(engine, 4096);
      const Result<SegmentId> segment = engine.open_segment(target->local_endpoint());
      ASSERT_TRUE(segment.ok()) << segment.status().to_string();
      const unsigned seed = 10 * round + i;
      stamp(local.data(), local.size(), seed);
      const TransferStatus end =
          transfer(engine, {{Opcode::kWrite, local.data(), *segment, 0, 4096}});
      EXPECT_EQ(end.state, TaskState::kCompleted) << i;
      EXPECT_EQ(difference(remote.data(), remote.size(), seed), kSame);
    }
  }
}

// Refused for good only after the time to connect.
TEST(Burst, AFullTargetSaysThatItIsBusy) {
  const std::unique_ptr<Engine> target = make_engine({{"max_inbound_connections", "1"}});
  const std::unique_ptr<Engine> first = make_engine();
  ASSERT_TRUE(first->open_segment(target->local_endpoint()).ok());
  // Never idle for long.
  std::atomic<bool> over{false};
  std::thread busy([&] {
    while (!over.load()) EXPECT_TRUE(first->sync_segment_cache().ok());
  });
  const std::unique_ptr<Engine> second = make_engine({{"connect_timeout_ms", "400"}});
  const Stopwatch watch;
  EXPECT_TRUE(fails_with(second->open_segment(target->local_endpoint()), Code::kBusy,
                         "max_inbound_connections"));
  EXPECT_LT(watch.ms(), 5'000);
  over.store(true);
  busy.join();
}

TEST(Burst, WhoWasRefusedGetsInWhenThereIsRoomAgain) {
  const std::unique_ptr<Engine> target = make_engine({{"max_inbound_connections", "1"}});
  std::unique_ptr<Engine> first = make_engine();
  ASSERT_TRUE(first->open_segment(target->local_endpoint()).ok());
  std::thread leaving([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    first.reset();
  });
  const std::unique_ptr<Engine> second = make_engine({{"connect_timeout_ms", "15000"}});
  const Result<SegmentId> opened = second->open_segment(target->local_endpoint());
  leaving.join();
  EXPECT_TRUE(opened.ok()) << opened.status().to_string();
}

}  // namespace
}  // namespace te::test
