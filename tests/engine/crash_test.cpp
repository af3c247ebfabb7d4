// A target that dies, comes back, or stands still, under load.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

#include "base/log.h"
#include "engine/loaded_peer.h"
#include "support/servers.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

// Every outstanding task ends within this after the target is gone.
constexpr int64_t kEndLimitMs = kSanitized ? 15'000 : 5'000;
constexpr Load kLoad{
    .threads = 8, .part = 2 << 20, .requests = 16, .patience = milliseconds(4 * kEndLimitMs)};

// Over the given transport alone.
class Loaded : public testing::Test, protected LoadedPeer {
 protected:
  Loaded() : LoadedPeer(kLoad) {}

  void begin(const PeerOptions& options, const std::string& transport = "tcp",
             const std::map<std::string, std::string>& config = {}) {
    ASSERT_NO_FATAL_FAILURE(start_peer(options));
    EngineOptions mine;
    mine.metadata = options.metadata;
    mine.name = options.metadata == "P2PHANDSHAKE" ? "" : "initiator";
    mine.host = "127.0.0.1";
    mine.config = config;
    mine.addressing = Addressing::kAuto;
    Result<std::unique_ptr<Engine>> engine = Engine::create(mine);
    ASSERT_TRUE(engine.ok()) << engine.status().to_string();
    ASSERT_TRUE((*engine)->install_transport(transport).ok());
    open(engine.take());
  }
  void start_full_load() {
    start_load();
    EXPECT_TRUE(eventually([this] { return completed_.load() > 40; }));
  }
};

class Crash : public Loaded, public testing::WithParamInterface<const char*> {};

TEST_P(Crash, AKilledTargetEndsEveryTaskAndNothingSpins) {
  begin({}, GetParam());
  ASSERT_TRUE(works(1));
  start_full_load();
  const Stopwatch watch;
  peer_->kill();
  EXPECT_TRUE(
      eventually([this] { return ended_.load() == kLoad.threads; }, milliseconds(kEndLimitMs)))
      << ended_.load() << " of " << kLoad.threads << " ended";
  EXPECT_LT(watch.ms(), kEndLimitMs);
  join_load();
  // With nothing to do it does nothing.
  const int64_t cpu = cpu_ms();
  const size_t descriptors = open_descriptors();
  std::this_thread::sleep_for(milliseconds(500));
  EXPECT_LT(cpu_ms() - cpu, 100);
  EXPECT_LE(open_descriptors(), descriptors);
  // The reason is told, and nothing is kept of the failures.
  const BatchId batch = *engine_->allocate_batch(1);
  const TransferRequest request{Opcode::kWrite, local_->data(), segment_, 0, 100};
  ASSERT_TRUE(engine_->submit(batch, {&request, 1}).ok());
  ASSERT_TRUE(engine_->wait(batch, kPatience).ok());
  EXPECT_TRUE(
      fails_with(engine_->task_error(batch, 0)->status, Code::kUnavailable, peer_->endpoint()));
  EXPECT_TRUE(engine_->free_batch(batch).ok());
}

TEST_P(Crash, AKilledTargetThatReturnsAtOnceIsFollowed) {
  // The same address again: without a server the name is the port.
  begin({.port = free_port()}, GetParam());
  for (uint64_t round = 0; round < 3; ++round) {
    ASSERT_TRUE(works(10 + round));
    start_full_load();
    ASSERT_NO_FATAL_FAILURE(replace_peer());
    ASSERT_TRUE(works(20 + round)) << "right after the target came back";
  }
  EXPECT_TRUE(works(30));
}

TEST_P(Crash, ATargetThatMovesToAnotherPortIsFoundByItsName) {
  EtcdServer etcd;
  if (!etcd.available()) GTEST_SKIP() << etcd.program() << " is not installed";
  ASSERT_TRUE(etcd.start().ok());
  PeerOptions options;
  options.metadata = etcd.url();
  options.name = "moving-target";
  options.environment = {{"TRANSFER_ENGINE_DIRECTORY_LEASE_S", "2"}};
  begin(options, GetParam());
  ASSERT_TRUE(works(1));
  const std::string first = peer_->endpoint();
  start_full_load();
  peer_->kill();
  peer_ = std::make_unique<PeerProcess>(options_);
  ASSERT_TRUE(peer_->running()) << "a dead holder's name can be taken over";
  EXPECT_NE(peer_->endpoint(), first);
  join_load();
  EXPECT_TRUE(works(2));
}

TEST_F(Loaded, AStoppedTargetTimesTasksOutAndLeavesLocalMemoryQuiet) {
  begin({});
  ASSERT_TRUE(works(1));
  ASSERT_NO_FATAL_FAILURE(time_out_while_it_stands_still(kSanitized ? 4'000 : 1'200));
  EXPECT_TRUE(works(2));
  // WRITEs of before may not arrive later than the newer bytes.
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(peer_->ask(fmt::format("check 2 0 {}", kLoad.size())), "same");
    std::this_thread::sleep_for(milliseconds(10));
  }
}

// The kernel reads it where it is until the target has taken it.
TEST_F(Loaded, MemorySentWithoutACopyIsNotReadOnceATaskTimedOut) {
  begin({}, "tcp", {{"tcp_zero_copy", "on"}});
  ASSERT_TRUE(works(1));
  peer_->stop();
  const TransferRequest again{Opcode::kWrite, local_->data(), segment_, 0, kLoad.size()};
  EXPECT_EQ(transfer(*engine_, {again}, within(500)).state, TaskState::kTimeout);
  std::memset(local_->data(), 0x3C, kLoad.size());
  peer_->signal(SIGCONT);
  // Whatever arrives is what was there at the time.
  for (int i = 0; i < 30; ++i) {
    ASSERT_EQ(peer_->ask(fmt::format("check 1 0 {}", kLoad.size())), "same");
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_TRUE(works(2));
}

TEST_F(Loaded, ATargetKilledUnderSendsWithoutACopyIsFollowed) {
  begin({.port = free_port()}, "tcp", {{"tcp_zero_copy", "on"}});
  for (uint64_t round = 0; round < 5; ++round) {
    ASSERT_TRUE(works(10 + round));
    start_full_load();
    ASSERT_NO_FATAL_FAILURE(replace_peer());
    ASSERT_TRUE(works(20 + round)) << "right after the target came back";
  }
}

TEST_P(Crash, StoppingAndGoingOnManyTimesKeepsTheBytesRight) {
  begin({}, GetParam());
  ASSERT_TRUE(works(1));
  for (uint64_t round = 0; round < 8; ++round) {
    peer_->stop();
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] { one(t, within(50)); });
    }
    for (std::thread& thread : threads) thread.join();
    peer_->signal(SIGCONT);
    ASSERT_TRUE(works(100 + round));
  }
}

TEST_P(Crash, AnInitiatorKilledUnderLoadLeavesTheTargetServing) {
  // The other way round: this process is the target, peers come and die in the middle of frames.
  Pair pair({}, GetParam());
  Registered own(pair.target(), 8 << 20);
  ASSERT_TRUE(pair.works());
  const size_t descriptors = open_descriptors(), threads = thread_count();
  const std::string names = descriptor_names();
  for (int round = 0; round < 6; ++round) {
    const pid_t child = start_mover(
        {.segment = pair.target().local_endpoint(), .at = Pair::kSize, .size = own.size()});
    ASSERT_GT(child, 0);
    std::this_thread::sleep_for(milliseconds(200));
    EXPECT_TRUE(pair.works());
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it was to be under load, not ended";
  }
  EXPECT_TRUE(eventually([&] { return open_descriptors() <= descriptors; }))
      << descriptor_names() << "before:\n"
      << names;
  EXPECT_EQ(thread_count(), threads);
  EXPECT_TRUE(pair.works());
}

INSTANTIATE_TEST_SUITE_P(Over, Crash, testing::Values("tcp", "shm"),
                         [](const auto& transport) { return std::string(transport.param); });

}  // namespace
}  // namespace te::test
