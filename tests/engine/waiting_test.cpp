// Every way to learn that a batch is over, alone and mixed, over one connection: whoever waits may
// be the one who takes the answers, and nobody may be left behind when that thread goes.
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/clock.h"
#include "engine/pair.h"

namespace te::test {
namespace {

enum class Way { kWait, kPoll, kStatus, kEvent };
constexpr Way kWays[] = {Way::kWait, Way::kPoll, Way::kStatus, Way::kEvent};

// False when it is not over within 20 seconds.
bool await(Engine& engine, BatchId batch, Way way) {
  const int64_t until_ns = now_ns() + 20'000 * kNsPerMs;
  if (way == Way::kWait) return engine.wait(batch, std::chrono::milliseconds(20'000)).ok();
  if (way == Way::kEvent) {
    const Result<int> event = engine.event_fd(batch);
    if (!event.ok()) return false;
    pollfd entry{*event, POLLIN, 0};
    return ::poll(&entry, 1, 20'000) == 1;
  }
  while (now_ns() < until_ns) {
    if (way == Way::kPoll && engine.wait(batch, std::chrono::milliseconds(0)).ok()) return true;
    if (way == Way::kStatus) {
      const Result<TransferStatus> status = engine.batch_status(batch);
      if (!status.ok() || is_terminal(status->state)) return status.ok();
    }
  }
  return false;
}

// The share of one thread: its own bytes there and back, over and over.
class Mover {
 public:
  Mover(Pair& pair, uint64_t at, uint64_t length) : pair_(pair), at_(at), length_(length) {}

  void round(Way way) {
    stamp(pair_.local() + at_, length_, ++seed_);
    run(pair_.write(at_, length_), way);
    std::memset(pair_.local() + at_, 0, length_);
    run(pair_.read(at_, length_), way);
    if (difference(pair_.local() + at_, length_, seed_) != kSame) ++wrong_;
  }
  int wrong() const { return wrong_; }
  int64_t slowest_ns() const { return slowest_ns_; }

 private:
  void run(const TransferRequest& request, Way way) {
    const BatchId batch = submit_new(pair_.initiator(), {request});
    const int64_t begin_ns = now_ns();
    if (!await(pair_.initiator(), batch, way)) ++wrong_;
    slowest_ns_ = std::max(slowest_ns_, now_ns() - begin_ns);
    const Result<TransferStatus> status = pair_.initiator().status(batch, 0);
    if (!status.ok() || status->state != TaskState::kCompleted) ++wrong_;
    if (!pair_.initiator().free_batch(batch).ok()) ++wrong_;
  }

  Pair& pair_;
  const uint64_t at_;
  const uint64_t length_;
  uint64_t seed_ = 0;
  int wrong_ = 0;
  int64_t slowest_ns_ = 0;
};

TEST(Waiting, OneThreadInEveryWay) {
  Pair pair;
  Mover mover(pair, 7, 5'001);
  for (int i = 0; i < 400; ++i) mover.round(kWays[i % 4]);
  // In runs, so that one way becomes the habit before the next comes.
  for (const Way way : kWays) {
    for (int i = 0; i < 100; ++i) mover.round(way);
  }
  EXPECT_EQ(mover.wrong(), 0);
}

TEST(Waiting, ManyThreadsEachInItsOwnWay) {
  constexpr uint64_t kShare = 400'000;
  Pair pair;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (uint64_t i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      Mover mover(pair, i * kShare + i, i % 2 == 0 ? 3'000 : kShare - 100);
      for (int round = 0; round < 60; ++round) mover.round(kWays[i % 4]);
      wrong += mover.wrong();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

// A thread that waits again and again takes answers between which nobody listens; what another one
// posts meanwhile comes back all the same.
TEST(Waiting, AThreadThatWaitsHoldsUpNobodyElse) {
  Pair pair;
  std::atomic<bool> over{false};
  std::atomic<int> wrong{0};
  std::thread busy([&] {
    Mover mover(pair, 1 << 20, 4'096);
    while (!over.load()) {
      mover.round(Way::kWait);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    wrong += mover.wrong();
  });
  Mover mover(pair, 0, 4'096);
  for (int i = 0; i < 200; ++i) mover.round(i % 2 == 0 ? Way::kEvent : Way::kStatus);
  over.store(true);
  busy.join();
  EXPECT_EQ(wrong.load() + mover.wrong(), 0);
}

// A batch whose last answer another thread takes wakes who sleeps for it inside the transport.
TEST(Waiting, SeveralThreadsWaitForOneBatch) {
  Pair pair;
  for (int round = 0; round < 100; ++round) {
    const BatchId batch =
        submit_new(pair.initiator(), {pair.write(0, 4'000), pair.read(8'192, 200'000)});
    std::atomic<int> woken{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        if (await(pair.initiator(), batch, Way::kWait)) ++woken;
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(woken.load(), 4);
    EXPECT_TRUE(pair.initiator().free_batch(batch).ok());
  }
}

TEST(Waiting, ThePeerGoesWhileAThreadSleepsInTheTransport) {
  for (int round = 0; round < 5; ++round) {
    auto target = make_engine();
    auto initiator = make_engine({{"retry_window_ms", "50"}});
    auto remote = std::make_unique<Registered>(*target, 1 << 20);
    Registered local(*initiator, 1 << 20);
    Result<SegmentId> segment = initiator->open_segment(target->local_endpoint());
    ASSERT_TRUE(segment.ok());
    const TransferRequest request{Opcode::kRead, local.data(), *segment,
                                  reinterpret_cast<uint64_t>(remote->data()), 100'000};
    std::atomic<int> moved{0};
    std::atomic<bool> failed{false};
    std::thread user([&] {
      while (!failed.load()) {
        const BatchId batch = submit_new(*initiator, {request});
        if (!await(*initiator, batch, Way::kWait)) break;
        failed = initiator->status(batch, 0)->state != TaskState::kCompleted;
        if (!failed) ++moved;
        EXPECT_TRUE(initiator->free_batch(batch).ok());
      }
    });
    EXPECT_TRUE(eventually([&] { return moved.load() > 50; }));
    remote.reset();
    target.reset();
    user.join();
    EXPECT_TRUE(failed.load());
  }
}

// One frame, of which a socket takes a part: a loop begins to send it, and no answer comes before
// the last byte. Whoever waits and came meanwhile has to hear that there is room again.
TEST(Waiting, AThreadThatComesWhileALoopFillsTheSocketGoesOn) {
  Pair pair(std::map<std::string, std::string>{{"slice_bytes", "1073741824"}});
  ASSERT_TRUE(pair.works());
  for (int64_t round = 0; round < 100; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(12));  // until the loops listen again
    const BatchId batch = submit_new(pair.initiator(), {pair.write(0, Pair::kSize)});
    for (const int64_t until_ns = now_ns() + 4'000 * round; now_ns() < until_ns;) {
    }
    const Stopwatch watch;
    ASSERT_TRUE(pair.initiator().wait(batch, kPatience).ok());
    ASSERT_LT(watch.ms(), 5'000) << "after " << 4 * round << " us";
    EXPECT_TRUE(pair.initiator().free_batch(batch).ok());
  }
}

}  // namespace
}  // namespace te::test
