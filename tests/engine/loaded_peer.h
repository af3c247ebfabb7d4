// An initiator, a target in a process of its own, and threads that load it: for tests of targets
// that die, come back, or stand still.
#pragma once

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "engine/pair.h"
#include "support/peer.h"

namespace te::test {

struct Load {
  int threads = 0;
  uint64_t part = 0;      // of the memory, of each thread
  uint64_t requests = 0;  // of a batch, which together move the part, every other one to the target
  std::chrono::milliseconds patience = kPatience;  // for a batch

  uint64_t size() const { return static_cast<uint64_t>(threads) * part; }
};

class LoadedPeer {
 protected:
  explicit LoadedPeer(const Load& load) : load_(load) {}

  // The target; who follows it has the same options.
  void start_peer(const PeerOptions& options) {
    options_ = options;
    options_.size = load_.size();
    peer_ = std::make_unique<PeerProcess>(options_);
    ASSERT_TRUE(peer_->running());
  }
  // The initiator, after the target.
  void open(std::unique_ptr<Engine> engine) {
    engine_ = std::move(engine);
    local_ = std::make_unique<Registered>(*engine_, load_.size());
    const Result<SegmentId> id = engine_->open_segment(peer_->segment());
    ASSERT_TRUE(id.ok()) << id.status().to_string();
    segment_ = *id;
  }

  // One more batch, which moves the thread's part that many times; its state.
  TaskState one(int thread, const SubmitOptions& options = {}, uint64_t times = 1) {
    const uint64_t at = static_cast<uint64_t>(thread) * load_.part;
    const uint64_t length = load_.part / load_.requests;
    std::vector<TransferRequest> requests;
    for (uint64_t i = 0; i < times * load_.requests; ++i) {
      const uint64_t nth = i % load_.requests, piece = at + nth * length;
      requests.push_back({nth % 2 == 0 ? Opcode::kWrite : Opcode::kRead, local_->data() + piece,
                          segment_, piece, length});
    }
    const BatchId batch = *engine_->allocate_batch(requests.size());
    TaskState state = TaskState::kFailed;
    if (engine_->submit(batch, requests, options).ok()) {
      EXPECT_TRUE(engine_->wait(batch, load_.patience).ok());
      state = engine_->batch_status(batch)->state;
    }
    EXPECT_TRUE(engine_->free_batch(batch).ok());
    return state;
  }

  // Each thread loads the target until a batch does not complete; `ended_` counts those.
  void start_load() {
    ended_ = 0;
    completed_ = 0;
    for (int t = 0; t < load_.threads; ++t) {
      threads_.emplace_back([this, t] {
        while (!over_.load() && one(t) == TaskState::kCompleted) ++completed_;
        ++ended_;
      });
    }
  }
  void join_load() {
    over_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    over_ = false;
  }

  // Kills the target under load and starts another one in its place, at the same address where the
  // options name the port. Requests that the old one had begun may fail; the others go on.
  void replace_peer() {
    peer_->kill();
    peer_ = std::make_unique<PeerProcess>(options_);
    const bool running = peer_->running();
    const int before = completed_.load();
    EXPECT_TRUE(
        eventually([&] { return completed_.load() > before || ended_.load() == load_.threads; }));
    join_load();
    ASSERT_TRUE(running);
  }

  // While the target stands still, every thread's batch ends at its deadline, of 500 ms, and soon:
  // within `most_ms`. The local memory is the caller's again, whatever the target still sends.
  void time_out_while_it_stands_still(int64_t most_ms) {
    peer_->stop();
    std::vector<std::thread> threads;
    std::atomic<int> timed_out{0};
    const Stopwatch watch;
    for (int t = 0; t < load_.threads; ++t) {
      threads.emplace_back([&, t] {
        if (one(t, within(500)) == TaskState::kTimeout) ++timed_out;
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(timed_out.load(), load_.threads);
    EXPECT_GE(watch.ms(), 480);
    EXPECT_LT(watch.ms(), most_ms);
    std::memset(local_->data(), 0x3C, load_.size());
    peer_->signal(SIGCONT);
    for (int i = 0; i < 30; ++i) {
      ASSERT_EQ(other_than(local_->data(), load_.size(), std::byte{0x3C}), kSame);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

  // The whole memory goes to the target that is there now, on the same segment id, and back.
  testing::AssertionResult works(uint64_t seed) {
    const uint64_t size = load_.size();
    stamp(local_->data(), size, seed);
    if (transfer(*engine_, {{Opcode::kWrite, local_->data(), segment_, 0, size}}).state !=
        TaskState::kCompleted) {
      return testing::AssertionFailure() << "a WRITE does not complete";
    }
    const std::string answer = peer_->ask(fmt::format("check {} 0 {}", seed, size));
    if (answer != "same") return testing::AssertionFailure() << "at the target: " << answer;
    std::memset(local_->data(), 0, size);
    if (transfer(*engine_, {{Opcode::kRead, local_->data(), segment_, 0, size}}).state !=
            TaskState::kCompleted ||
        difference(local_->data(), size, seed) != kSame) {
      return testing::AssertionFailure() << "a READ does not bring what was written";
    }
    return testing::AssertionSuccess();
  }

  const Load load_;
  PeerOptions options_;
  std::unique_ptr<PeerProcess> peer_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Registered> local_;
  SegmentId segment_ = -1;
  std::vector<std::thread> threads_;
  std::atomic<bool> over_{false};
  std::atomic<int> ended_{0};
  std::atomic<int> completed_{0};
};

}  // namespace te::test
