// A target that dies, comes back, or stands still, under load.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

#include "base/log.h"
#include "engine/pair.h"
#include "support/peer.h"
#include "support/servers.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kPart = 2 << 20;
constexpr int kThreads = 8;
constexpr uint64_t kSize = kThreads * kPart;

// An initiator with a target in another process that it loads from eight threads, over the given
// transport alone.
class Load : public testing::Test {
 protected:
  // Every outstanding task ends within this after the target is gone.
  static constexpr int64_t kEndLimitMs = kSanitized ? 15'000 : 5'000;

  void begin(const PeerOptions& options, const std::string& transport = "tcp") {
    options_ = options;
    options_.size = kSize;
    peer_ = std::make_unique<PeerProcess>(options_);
    ASSERT_TRUE(peer_->running());
    EngineOptions mine;
    mine.metadata = options.metadata;
    mine.name = options.metadata == "P2PHANDSHAKE" ? "" : "initiator";
    mine.host = "127.0.0.1";
    Result<std::unique_ptr<Engine>> engine = Engine::create(mine);
    ASSERT_TRUE(engine.ok()) << engine.status().to_string();
    engine_ = engine.take();
    ASSERT_TRUE(engine_->install_transport(transport).ok());
    local_ = std::make_unique<Registered>(*engine_, kSize);
    const Result<SegmentId> id = engine_->open_segment(peer_->segment());
    ASSERT_TRUE(id.ok()) << id.status().to_string();
    segment_ = *id;
  }

  // One more batch on the threads's part, of 16 requests; its state.
  TaskState one(int thread, const SubmitOptions& options = {}) {
    const uint64_t at = static_cast<uint64_t>(thread) * kPart;
    std::vector<TransferRequest> requests;
    for (uint64_t i = 0; i < 16; ++i) {
      const uint64_t piece = at + i * (kPart / 16);
      requests.push_back({i % 2 == 0 ? Opcode::kWrite : Opcode::kRead, local_->data() + piece,
                          segment_, piece, kPart / 16});
    }
    const BatchId batch = *engine_->allocate_batch(requests.size());
    const Status submitted = engine_->submit(batch, requests, options);
    TaskState state = TaskState::kFailed;
    if (submitted.ok()) {
      EXPECT_TRUE(engine_->wait(batch, milliseconds(4 * kEndLimitMs)).ok());
      state = engine_->batch_status(batch)->state;
    }
    EXPECT_TRUE(engine_->free_batch(batch).ok());
    return state;
  }

  // Loads the target until a batch does not complete; `ended_` counts the threads for which that
  // happened.
  void start_load() {
    ended_ = 0;
    completed_ = 0;
    for (int t = 0; t < kThreads; ++t) {
      load_.emplace_back([this, t] {
        while (!over_.load()) {
          if (one(t) != TaskState::kCompleted) break;
          ++completed_;
        }
        ++ended_;
      });
    }
    EXPECT_TRUE(eventually([this] { return completed_.load() > 40; }));
  }
  void join_load() {
    over_ = true;
    for (std::thread& thread : load_) thread.join();
    load_.clear();
    over_ = false;
  }

  // The whole buffer goes to the target that is there now, on the same segment id.
  testing::AssertionResult works(uint64_t seed) {
    stamp(local_->data(), kSize, seed);
    const TransferStatus status =
        transfer(*engine_, {{Opcode::kWrite, local_->data(), segment_, 0, kSize}});
    if (status.state != TaskState::kCompleted) {
      return testing::AssertionFailure() << "a WRITE does not complete";
    }
    const std::string answer = peer_->ask(fmt::format("check {} 0 {}", seed, kSize));
    if (answer != "same") return testing::AssertionFailure() << "at the target: " << answer;
    std::memset(local_->data(), 0, kSize);
    if (transfer(*engine_, {{Opcode::kRead, local_->data(), segment_, 0, kSize}}).state !=
            TaskState::kCompleted ||
        difference(local_->data(), kSize, seed) != kSame) {
      return testing::AssertionFailure() << "a READ does not bring what was written";
    }
    return testing::AssertionSuccess();
  }

  PeerOptions options_;
  std::unique_ptr<PeerProcess> peer_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Registered> local_;
  SegmentId segment_ = -1;
  std::vector<std::thread> load_;
  std::atomic<bool> over_{false};
  std::atomic<int> ended_{0};
  std::atomic<int> completed_{0};
};

class Crash : public Load, public testing::WithParamInterface<const char*> {};

TEST_P(Crash, AKilledTargetEndsEveryTaskAndNothingSpins) {
  begin({}, GetParam());
  ASSERT_TRUE(works(1));
  start_load();
  const Stopwatch watch;
  peer_->kill();
  EXPECT_TRUE(eventually([this] { return ended_.load() == kThreads; }, milliseconds(kEndLimitMs)))
      << ended_.load() << " of " << kThreads << " ended";
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
  begin({}, GetParam());
  // The same address again: without a server the name is the port.
  options_.port = peer_->port();
  for (uint64_t round = 0; round < 3; ++round) {
    ASSERT_TRUE(works(10 + round));
    start_load();
    peer_->kill();
    peer_ = std::make_unique<PeerProcess>(options_);
    ASSERT_TRUE(peer_->running());
    // Requests that the old one had begun fail; the others go on with the new one.
    const int before = completed_.load();
    EXPECT_TRUE(
        eventually([&] { return completed_.load() > before || ended_.load() == kThreads; }));
    join_load();
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
  options.environment = {{"TE_DIRECTORY_LEASE_S", "2"}};
  begin(options, GetParam());
  ASSERT_TRUE(works(1));
  const std::string first = peer_->endpoint();
  start_load();
  peer_->kill();
  peer_ = std::make_unique<PeerProcess>(options_);
  ASSERT_TRUE(peer_->running()) << "a dead holder's name can be taken over";
  EXPECT_NE(peer_->endpoint(), first);
  join_load();
  EXPECT_TRUE(works(2));
}

TEST_F(Load, AStoppedTargetTimesTasksOutAndLeavesLocalMemoryQuiet) {
  begin({});
  ASSERT_TRUE(works(1));
  peer_->stop();
  std::vector<std::thread> threads;
  std::atomic<int> timed_out{0};
  const Stopwatch watch;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      if (one(t, within(500)) == TaskState::kTimeout) ++timed_out;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(timed_out.load(), kThreads);
  EXPECT_GE(watch.ms(), 480);
  EXPECT_LT(watch.ms(), kSanitized ? 4'000 : 1'200);
  // Terminal: the memory is the caller's again, whatever the target still sends.
  std::memset(local_->data(), 0x3C, kSize);
  peer_->signal(SIGCONT);
  for (int i = 0; i < 30; ++i) {
    ASSERT_EQ(other_than(local_->data(), kSize, std::byte{0x3C}), kSame);
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_TRUE(works(2));
  // WRITEs of before may not arrive later than the newer bytes.
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(peer_->ask(fmt::format("check 2 0 {}", kSize)), "same");
    std::this_thread::sleep_for(milliseconds(10));
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
      << open_descriptors() << " descriptors after " << descriptors;
  EXPECT_EQ(thread_count(), threads);
  EXPECT_TRUE(pair.works());
}

INSTANTIATE_TEST_SUITE_P(Over, Crash, testing::Values("tcp", "shm"),
                         [](const auto& transport) { return std::string(transport.param); });

}  // namespace
}  // namespace te::test
