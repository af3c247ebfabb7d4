// Engines whose metadata server goes away and comes back, and names that two engines want.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

#include "base/log.h"
#include "base/socket.h"
#include "engine/pair.h"
#include "support/peer.h"
#include "support/servers.h"

namespace te::test {
namespace {

class Directories : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::string_view(GetParam()) == "etcd") {
      auto etcd = std::make_unique<EtcdServer>();
      if (etcd->available()) {
        ASSERT_TRUE(etcd->start().ok());
      }
      url_ = etcd->url();
      server_ = std::move(etcd);
    } else {
      auto redis = std::make_unique<RedisServer>("secret");
      if (redis->available()) {
        ASSERT_TRUE(redis->start().ok());
      }
      url_ = redis->url();
      server_ = std::move(redis);
    }
    if (!server_->available()) GTEST_SKIP() << server_->program() << " is not installed";
  }

  Result<std::unique_ptr<Engine>> try_engine(const std::string& name, const char* lease = "1") {
    EngineOptions options;
    options.metadata = url_;
    options.name = name;
    options.host = "127.0.0.1";
    options.addressing = Addressing::kAuto;
    options.config = {{"directory_lease_s", lease}, {"directory_timeout_ms", "1000"}};
    return Engine::create(options);
  }
  std::unique_ptr<Engine> engine(const std::string& name) {
    Result<std::unique_ptr<Engine>> made = try_engine(name);
    EXPECT_TRUE(made.ok()) << made.status().to_string();
    return made.ok() ? made.take() : nullptr;
  }

  std::unique_ptr<ServerProcess> server_;
  std::string url_;
};

TEST_P(Directories, TransfersGoOnWithoutTheServerAndNamesComeBackWithIt) {
  std::unique_ptr<Engine> target = engine("target"), initiator = engine("initiator");
  ASSERT_TRUE(target && initiator);
  Registered remote(*target, 1 << 20), local(*initiator, 1 << 20);
  const Result<SegmentId> segment = initiator->open_segment("target");
  ASSERT_TRUE(segment.ok()) << segment.status().to_string();
  std::atomic<bool> over{false};
  std::atomic<int> moved{0}, wrong{0};
  std::thread load([&] {
    for (uint64_t seed = 1; !over.load(); ++seed) {
      stamp(local.data(), local.size(), seed);
      const TransferStatus end =
          transfer(*initiator, {{Opcode::kWrite, local.data(), *segment, 0, local.size()}});
      const size_t differs = difference(remote.data(), remote.size(), seed);
      const bool good = end.state == TaskState::kCompleted && differs == kSame;
      ++(good ? moved : wrong);
      EXPECT_TRUE(good) << "state " << static_cast<int>(end.state) << ", " << end.transferred_bytes
                        << " bytes, first difference at " << differs << ", transfer " << seed;
    }
  });
  const auto more = [&] {
    const int before = moved.load();
    return eventually([&] { return moved.load() > before + 20; });
  };
  EXPECT_TRUE(more());
  server_->stop();
  EXPECT_TRUE(more());
  // What needs the server says so.
  EXPECT_TRUE(fails_with(initiator->open_segment("another"), Code::kUnavailable, "another"));
  EXPECT_TRUE(initiator->open_segment("target").ok()) << "known already";
  // New buffers of a known engine need no server either.
  {
    Registered late(*target, 4096), own(*initiator, 4096);
    EXPECT_EQ(transfer(*initiator, {{Opcode::kRead, own.data(), *segment,
                                     reinterpret_cast<uint64_t>(late.data()), 100}})
                  .state,
              TaskState::kCompleted);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(1'200));  // longer than the lease
  EXPECT_TRUE(more());
  ASSERT_TRUE(server_->restart_empty().ok());
  EXPECT_TRUE(more());
  std::unique_ptr<Engine> third = engine("third");
  ASSERT_TRUE(third);
  EXPECT_TRUE(eventually([&] { return third->open_segment("target").ok(); }))
      << "the name is not published again";
  over.store(true);
  load.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST_P(Directories, TheSecondOwnerOfANameIsTold) {
  std::unique_ptr<Engine> first = engine("wanted");
  ASSERT_TRUE(first);
  Registered remote(*first, 4096);
  EXPECT_TRUE(fails_with(try_engine("wanted"), Code::kAlreadyExists, "wanted"));
  // The first one is unharmed, and its name free when it ends.
  std::unique_ptr<Engine> other = engine("other");
  ASSERT_TRUE(other);
  Registered local(*other, 4096);
  const Result<SegmentId> segment = other->open_segment("wanted");
  ASSERT_TRUE(segment.ok()) << segment.status().to_string();
  EXPECT_EQ(transfer(*other, {{Opcode::kWrite, local.data(), *segment, 0, 4096}}).state,
            TaskState::kCompleted);
  ASSERT_TRUE(first->remove_local_segment("wanted").ok());
  EXPECT_EQ(first->remove_local_segment("wanted").code(), Code::kNotFound);
  EXPECT_EQ(transfer(*other, {{Opcode::kWrite, local.data(), *segment, 0, 4096}}).state,
            TaskState::kCompleted);
  Result<std::unique_ptr<Engine>> second = try_engine("wanted");
  EXPECT_TRUE(second.ok()) << second.status().to_string();
}

TEST_P(Directories, ADeadOwnersNameIsTakenOver) {
  PeerOptions options;
  options.metadata = url_;
  options.name = "mortal";
  options.environment = {{"TRANSFER_ENGINE_DIRECTORY_LEASE_S", "600"}};
  PeerProcess peer(options);
  ASSERT_TRUE(peer.running());
  EXPECT_EQ(try_engine("mortal").code(), Code::kAlreadyExists);
  peer.kill();
  // Long before the lease ends.
  Result<std::unique_ptr<Engine>> heir = try_engine("mortal");
  ASSERT_TRUE(heir.ok()) << heir.status().to_string();
  std::unique_ptr<Engine> other = engine("other");
  const Result<SegmentId> segment = other->open_segment("mortal");
  ASSERT_TRUE(segment.ok());
  EXPECT_EQ(join_host_port(other->describe_segment(*segment)->host,
                           other->describe_segment(*segment)->port),
            (*heir)->local_endpoint());
}

TEST_P(Directories, AnEndedEnginesNameIsGoneLongBeforeItsLeaseEnds) {
  try_engine("brief", "600").take().reset();
  std::unique_ptr<Engine> other = engine("other");
  // On a loaded machine the withdrawal may take longer than the end.
  EXPECT_TRUE(eventually(
      [&] { return fails_with(other->open_segment("brief"), Code::kNotFound, "brief"); }));
}

TEST_P(Directories, GracefulShutdownWithdrawsTheNameAndDiesByTheSignal) {
  std::unique_ptr<Engine> other = engine("other");
  for (const int number : {SIGTERM, SIGINT}) {
    PeerOptions options;
    options.metadata = url_;
    options.name = "graceful";
    options.graceful = true;
    options.environment = {{"TRANSFER_ENGINE_DIRECTORY_LEASE_S", "600"}};
    PeerProcess peer(options);
    ASSERT_TRUE(peer.running());
    EXPECT_TRUE(other->open_segment_no_cache("graceful").ok());
    EXPECT_TRUE(other->close_segment(*other->open_segment("graceful")).ok());
    EXPECT_TRUE(other->close_segment(*other->open_segment("graceful")).ok());
    peer.signal(number);
    // The thread sanitizer lets a signal wait until the call that it interrupts has ended.
    if (kThreadSanitized) peer.ask("notifications");
    const int status = peer.wait_for_end();
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), number);
    const Status gone = other->open_segment_no_cache("graceful").status();
    EXPECT_TRUE(fails_with(gone, Code::kNotFound, "graceful"));
  }
}

INSTANTIATE_TEST_SUITE_P(Servers, Directories, testing::Values("etcd", "redis"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace te::test
