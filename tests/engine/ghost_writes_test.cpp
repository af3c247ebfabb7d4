// No ghost writes: what is left of a WRITE that was given up never lands after a later WRITE.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <csignal>
#include <thread>

#include "engine/fabric.h"
#include "engine/pair.h"
#include "support/deaf_sockets.h"
#include "support/delaying_proxy.h"
#include "support/peer.h"

namespace te::test {
namespace {

constexpr uint64_t kSize = 1 << 20;
constexpr uint64_t kOld = 1, kNew = 2;

// An initiator that reaches its target through a proxy.
class BehindAProxy : public testing::Test {
 protected:
  void begin(const std::map<std::string, std::string>& config) {
    local_.reset();
    remote_.reset();
    initiator_.reset();
    proxy_.reset();
    target_ = make_engine({}, "tcp");
    proxy_ = std::make_unique<DelayingProxy>(target_->local_endpoint());
    initiator_ = make_engine(config, "tcp");
    remote_ = std::make_unique<Registered>(*target_, kSize);
    local_ = std::make_unique<Registered>(*initiator_, kSize);
    open();
    ASSERT_EQ(write(0, kSize).state, TaskState::kCompleted);
  }
  void open() {
    const Result<SegmentId> id = initiator_->open_segment(proxy_->endpoint());
    ASSERT_TRUE(id.ok()) << id.status().to_string();
    segment_ = *id;
  }
  TransferStatus write(uint64_t seed, uint64_t length, const SubmitOptions& options = {}) {
    fill(local_->data(), kSize, seed);
    const auto at = reinterpret_cast<uint64_t>(remote_->data());
    return transfer(*initiator_, {{Opcode::kWrite, local_->data(), segment_, at, length}}, options);
  }
  // After the network let go of the old bytes, and the target had time to take them.
  void expect_new(uint64_t length) {
    proxy_->release();
    for (int i = 0; i < 20; ++i) {
      ASSERT_EQ(first_difference(remote_->data(), length, kNew), length) << "a ghost write";
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

  std::unique_ptr<Engine> target_;
  std::unique_ptr<DelayingProxy> proxy_;
  std::unique_ptr<Engine> initiator_;
  std::unique_ptr<Registered> remote_, local_;
  SegmentId segment_ = -1;
};

TEST_F(BehindAProxy, ALaterWriteOnTheSameSegmentIsNotOverwritten) {
  for (const uint64_t length : {uint64_t{4096}, kSize}) {
    begin({});
    proxy_->hold();
    ASSERT_EQ(write(kOld, length, within(300)).state, TaskState::kTimeout);
    ASSERT_GT(proxy_->held_bytes(), 0u) << "nothing was under way";
    ASSERT_EQ(write(kNew, length).state, TaskState::kCompleted);
    expect_new(length);
  }
}

// The session that follows is another one, of which the target does not know that it comes after.
TEST_F(BehindAProxy, ALaterWriteOnASegmentOpenedAgainIsNotOverwritten) {
  for (const uint64_t length : {uint64_t{4096}, kSize}) {
    begin({});
    proxy_->hold();
    ASSERT_EQ(write(kOld, length, within(300)).state, TaskState::kTimeout);
    ASSERT_GT(proxy_->held_bytes(), 0u) << "nothing was under way";
    ASSERT_TRUE(initiator_->close_segment(segment_).ok());
    open();
    ASSERT_EQ(write(kNew, length).state, TaskState::kCompleted);
    expect_new(length);
  }
}

TEST_F(BehindAProxy, ALaterWriteByATransportInstalledAgainIsNotOverwritten) {
  begin({});
  proxy_->hold();
  ASSERT_EQ(write(kOld, kSize, within(300)).state, TaskState::kTimeout);
  ASSERT_TRUE(initiator_->uninstall_transport("tcp").ok());
  ASSERT_TRUE(initiator_->install_transport("tcp").ok());
  ASSERT_EQ(write(kNew, kSize).state, TaskState::kCompleted);
  expect_new(kSize);
}

// A target that stands still with an unfinished WRITE in its socket buffers, by each transport.
class WhileStopped : public testing::TestWithParam<const char*> {
 protected:
  static constexpr uint64_t kMemory = 8 << 20;

  // False where the transport is missing; the test is then skipped.
  bool begin() {
    const std::string transport = GetParam();
    std::map<std::string, std::string> config;
    PeerOptions options;
    if (transport == "fabric:tcp") {
      config["fabric_addresses"] = "127.0.0.1";
      options.environment["TRANSFER_ENGINE_FABRIC_ADDRESSES"] = "127.0.0.1";
    }
    engine_ = make_engine(config, "");
    if (const Status status = engine_->install_transport(transport); !status.ok()) {
      EXPECT_EQ(status.code(), Code::kUnsupported) << status.to_string();
      return false;
    }
    options.transport = transport;
    options.size = kMemory;
    peer_ = std::make_unique<PeerProcess>(options);
    EXPECT_TRUE(peer_->running());
    local_ = std::make_unique<Registered>(*engine_, kMemory);
    const Result<SegmentId> id = engine_->open_segment(peer_->segment());
    EXPECT_TRUE(id.ok()) << id.status().to_string();
    segment_ = id.ok() ? *id : -1;
    return true;
  }
  TaskState write(uint64_t seed, uint64_t length, const SubmitOptions& options = {}) {
    stamp(local_->data(), kMemory, seed);
    return transfer(*engine_, {{Opcode::kWrite, local_->data(), segment_, 0, length}}, options)
        .state;
  }

  std::unique_ptr<PeerProcess> peer_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Registered> local_;
  SegmentId segment_ = -1;
};

INSTANTIATE_TEST_SUITE_P(Over, WhileStopped, testing::Values("tcp", "shm", "fabric:tcp"),
                         [](const auto& transport) {
                           const std::string name = transport.param;
                           return name.substr(0, name.find(':'));
                         });

TEST_P(WhileStopped, TakesNothingOfATimedOutWriteAfterALaterOne) {
  if (!begin()) GTEST_SKIP() << GetParam() << " is not here";
  for (const uint64_t length : {uint64_t{4096}, uint64_t{256} << 10, kMemory}) {
    ASSERT_EQ(write(kNew, kMemory), TaskState::kCompleted);
    peer_->stop();
    const Stopwatch watch;
    const TaskState state = write(kOld, length, within(300));
    // With shm the target need not do anything.
    EXPECT_EQ(state == TaskState::kTimeout, std::string(GetParam()) != "shm");
    EXPECT_LT(watch.ms(), 300 + 250 * (kSanitized ? 4 : 1)) << length << " bytes";
    peer_->signal(SIGCONT);
    ASSERT_EQ(write(kNew, length), TaskState::kCompleted) << length << " bytes";
    for (int i = 0; i < 20; ++i) {
      ASSERT_EQ(peer_->ask(fmt::format("check {} 0 {}", kNew, kMemory)), "same") << "a ghost write";
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

// A WRITE over libfabric is lost on its way, and the next one goes over TCP: only the fence ends
// what the target has for the former.
TEST(FabricGhostWrites, AWriteByAnotherTransportIsNotOverwritten) {
  constexpr uint64_t kLength = 64 << 10;
  std::string why;
  const std::unique_ptr<Engine> target = make_fabric_engine(kOneNic, &why);
  const std::unique_ptr<Engine> initiator = make_fabric_engine(kOneNic, &why);
  if (!target || !initiator) GTEST_SKIP() << why;
  ASSERT_TRUE(target->install_transport("tcp").ok());
  Registered remote(*target, kLength), local(*initiator, kLength);
  const Result<SegmentId> segment = initiator->open_segment(target->local_endpoint());
  ASSERT_TRUE(segment.ok()) << segment.status().to_string();
  const auto write = [&](uint64_t seed, const SubmitOptions& options = {}) {
    fill(local.data(), kLength, seed);
    const auto at = reinterpret_cast<uint64_t>(remote.data());
    return transfer(*initiator, {{Opcode::kWrite, local.data(), *segment, at, kLength}}, options)
        .state;
  };
  ASSERT_EQ(write(kNew), TaskState::kCompleted);

  DeafSockets deaf(parse_host_port(target->local_endpoint())->port);
  if (deaf.count() == 0) GTEST_SKIP() << "no filter can be attached to a socket here";
  ASSERT_EQ(write(kOld, within(300)), TaskState::kTimeout);
  ASSERT_TRUE(deaf.is_awaited()) << "nothing was under way";
  ASSERT_TRUE(initiator->uninstall_transport("fabric:tcp").ok());
  ASSERT_TRUE(initiator->install_transport("tcp").ok());
  ASSERT_EQ(write(kNew), TaskState::kCompleted);
  deaf.hear();
  ASSERT_TRUE(eventually([&] { return !deaf.is_awaited(); })) << "it was not sent again";
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(first_difference(remote.data(), kLength, kNew), kLength) << "a ghost write";
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace
}  // namespace te::test
