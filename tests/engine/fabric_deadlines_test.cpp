// Deadlines over libfabric: what is under way ends at once, whether the peer works, stands still,
// or does both by turns, and the endpoints that are closed for it are closed safely.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "engine/fabric.h"
#include "engine/loaded_peer.h"
#include "rdma/devices.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kLateMs = kSanitized ? 1'500 : 250;
constexpr int kThreads = 4;
constexpr int kRounds = kSanitized ? 20 : 80;
constexpr uint64_t kTimesMax = 16;  // that a batch moves its part

// How late the machine itself was, at worst, since it was asked last: on a machine that is busy
// with other things that adds to everything.
class Machine {
 public:
  Machine() : thread_([this] { watch(); }) {}
  ~Machine() {
    over_ = true;
    thread_.join();
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  int64_t late_ms() { return late_ms_.exchange(0); }

 private:
  void watch() {
    constexpr int64_t kNapMs = 5;
    while (!over_.load()) {
      const Stopwatch watch;
      std::this_thread::sleep_for(milliseconds(kNapMs));
      late_ms_ = std::max(late_ms_.load(), watch.ms() - kNapMs);
    }
  }

  std::atomic<bool> over_{false};
  std::atomic<int64_t> late_ms_{0};
  std::thread thread_;
};

class FabricDeadlines : public testing::Test, protected LoadedPeer {
 protected:
  FabricDeadlines() : LoadedPeer({.threads = kThreads, .part = 16 << 20, .requests = 4}) {}

  void SetUp() override { begin("fabric:tcp", "127.0.0.1", "127.0.0.1"); }
  void begin(const std::string& transport, const std::string& here, const std::string& there) {
    std::string why;
    std::unique_ptr<Engine> engine =
        make_fabric_engine({{"fabric_addresses", here}}, &why, transport.c_str());
    if (!engine) GTEST_SKIP() << why;
    PeerOptions options;
    options.transport = transport;
    options.environment["TRANSFER_ENGINE_FABRIC_ADDRESSES"] = there;
    ASSERT_NO_FATAL_FAILURE(start_peer(options));
    ASSERT_NO_FATAL_FAILURE(open(std::move(engine)));
    ASSERT_TRUE(works(1));
  }

  // Batches of every thread with deadlines, many of which pass in the middle of the bytes on any
  // machine: after one that completes the next one is twice as long, and else half.
  void time_out_in_the_middle() {
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([this, t] {
        std::mt19937 random(static_cast<unsigned>(t));
        uint64_t times = 1;
        for (int round = 0; round < kRounds; ++round) {
          const int64_t ms = 1 + static_cast<int64_t>(random() % 12);
          const Stopwatch watch;
          const TaskState state = one(t, within(ms), times);
          longest_ms_ = std::max(longest_ms_.load(), watch.ms() - ms);
          const bool completed = state == TaskState::kCompleted;
          times = completed ? std::min(2 * times, kTimesMax) : std::max<uint64_t>(times / 2, 1);
          ++(completed ? completed_ : ended_);
          if (state == TaskState::kFailed) ++failed_;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  void expect_all_is_well() {
    EXPECT_EQ(failed_.load(), 0);
    EXPECT_GT(ended_.load(), kRounds / 4) << "hardly a deadline passed";
    EXPECT_LE(longest_ms_.load(), kLateMs + 2 * machine_.late_ms());
    EXPECT_TRUE(works(2));
    // Whatever is still on its way to the local memory would show here.
    std::memset(local_->data(), 0x3C, load_.size());
    std::this_thread::sleep_for(milliseconds(50));
    EXPECT_EQ(other_than(local_->data(), load_.size(), std::byte{0x3C}), kSame);
  }

  Machine machine_;
  std::atomic<int> failed_{0};
  std::atomic<int64_t> longest_ms_{0};
};

TEST_F(FabricDeadlines, HoldInTheMiddleOfTransfersWithAPeerThatWorks) {
  time_out_in_the_middle();
  expect_all_is_well();
}

// ofi_rxm over another provider than tcp.
class FabricVerbsDeadlines : public FabricDeadlines {
 protected:
  void SetUp() override {
    TE_NEEDS_RDMA_VM();
    begin("fabric:verbs", "10.77.0.1", "10.77.0.2");
  }
};

TEST_F(FabricVerbsDeadlines, HoldInTheMiddleOfTransfersWithAPeerThatWorks) {
  time_out_in_the_middle();
  expect_all_is_well();
}

TEST_F(FabricDeadlines, HoldInTheMiddleOfTransfersWithAPeerThatIsSlow) {
  std::atomic<bool> over{false};
  std::thread brake([&] {
    while (!over.load()) {
      peer_->signal(SIGSTOP);
      std::this_thread::sleep_for(milliseconds(7));
      peer_->signal(SIGCONT);
      std::this_thread::sleep_for(milliseconds(7));
    }
  });
  time_out_in_the_middle();
  over = true;
  brake.join();
  expect_all_is_well();
}

TEST_F(FabricDeadlines, HoldForATargetThatStopped) {
  for (const uint64_t length : {uint64_t{4096}, uint64_t{1} << 20, load_.size()}) {
    for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
      // As soon as it stopped, and when it has been silent for long.
      for (const int64_t ms : {30, 600}) {
        peer_->stop();
        const Stopwatch watch;
        const TransferStatus status =
            transfer(*engine_, {{opcode, local_->data(), segment_, 0, length}}, within(ms));
        EXPECT_EQ(status.state, TaskState::kTimeout);
        EXPECT_GE(watch.ms(), ms - 1);
        EXPECT_LE(watch.ms(), ms + kLateMs + 2 * machine_.late_ms()) << length << " bytes";
        peer_->signal(SIGCONT);
        ASSERT_TRUE(works(length + static_cast<uint64_t>(ms)));
      }
    }
  }
}

TEST_F(FabricDeadlines, ACancelledTransferEndsSoon) {
  peer_->stop();
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    const BatchId batch =
        submit_new(*engine_, {{opcode, local_->data(), segment_, 0, load_.size()}});
    std::this_thread::sleep_for(milliseconds(20));
    const Stopwatch watch;
    EXPECT_TRUE(engine_->cancel(batch).ok());
    ASSERT_TRUE(engine_->wait(batch, kPatience).ok());
    EXPECT_LE(watch.ms(), 100 + kLateMs + 2 * machine_.late_ms());
    EXPECT_EQ(engine_->batch_status(batch)->state, TaskState::kCancelled);
    EXPECT_TRUE(engine_->free_batch(batch).ok());
  }
  peer_->signal(SIGCONT);
  EXPECT_TRUE(works(3));
}

}  // namespace
}  // namespace te::test
