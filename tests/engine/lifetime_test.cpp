// Engines that end, and transports that come and go, while transfers are in flight.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/log.h"
#include "engine/pair.h"
#include "support/peer.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

constexpr int kThreads = 8;
constexpr uint64_t kPart = 4 << 20;
constexpr int64_t kEndLimitMs = kSanitized ? 10'000 : 2'000;

// Eight threads that submit batches and then wait for them, which is all that may go on while an
// engine ends.
class Waiters {
 public:
  Waiters(Engine& engine, SegmentId segment, std::byte* local, uint64_t there) {
    for (uint64_t t = 0; t < kThreads; ++t) {
      threads_.emplace_back([this, t, &engine, segment, local, there] {
        std::vector<BatchId> batches;
        for (uint64_t i = 0; i < 8; ++i) {
          const uint64_t at = t * kPart + i * (kPart / 8);
          batches.push_back(submit_new(engine, {{i % 2 == 0 ? Opcode::kWrite : Opcode::kRead,
                                                 local + at, segment, there + at, kPart / 8}}));
        }
        ++inside_;
        // wait() may be called, and woken, until the end; not on an engine that is gone.
        if (engine.wait(batches[t]).code() == Code::kCancelled) ++told_;
        ++woken_;
      });
    }
    EXPECT_TRUE(eventually([this] { return inside_.load() == kThreads; }));
    std::this_thread::sleep_for(
        milliseconds(20));  // from there into wait() is an instruction or so
  }
  ~Waiters() {
    for (std::thread& thread : threads_) thread.join();
  }
  bool all_woken() {
    return eventually([this] { return woken_.load() == kThreads; });
  }
  // How many were told that the end of the engine cancelled tasks.
  int told() const { return told_.load(); }

 private:
  std::vector<std::thread> threads_;
  std::atomic<int> inside_{0};
  std::atomic<int> woken_{0};
  std::atomic<int> told_{0};
};

TEST(Lifetime, AnInitiatorEndsWithBatchesInFlightAndWaiters) {
  PeerProcess peer({.size = kThreads * kPart, .seed = 4});
  ASSERT_TRUE(peer.running());
  std::thread([] {}).join();  // a sanitizer's own thread comes with the first
  const size_t descriptors = open_descriptors(), threads = thread_count();
  std::vector<std::byte> local(kThreads * kPart);
  for (int round = 0; round < 3; ++round) {
    std::unique_ptr<Engine> engine = make_engine();
    ASSERT_TRUE(engine->register_memory(local.data(), local.size()).ok());
    const Result<SegmentId> segment = engine->open_segment(peer.segment());
    ASSERT_TRUE(segment.ok()) << segment.status().to_string();
    peer.stop();  // so that everything stays in flight
    Waiters waiters(*engine, *segment, local.data(), 0);
    const Stopwatch watch;
    engine.reset();
    EXPECT_LT(watch.ms(), kEndLimitMs);
    EXPECT_TRUE(waiters.all_woken());
    EXPECT_EQ(waiters.told(), kThreads);
    // The memory is ours again.
    std::memset(local.data(), 0x66, local.size());
    peer.signal(SIGCONT);
    for (int i = 0; i < 5; ++i) {
      std::this_thread::sleep_for(milliseconds(10));
      ASSERT_EQ(other_than(local.data(), local.size(), std::byte{0x66}), kSame);
    }
  }
  EXPECT_TRUE(eventually([&] { return open_descriptors() <= descriptors; }));
  EXPECT_TRUE(eventually([&] { return thread_count() <= threads; }));
}

TEST(Lifetime, AnInitiatorEndsInTheMiddleOfFastTransfers) {
  constexpr uint64_t kHalf = kPart / 2;
  std::unique_ptr<Engine> target = make_engine();
  Registered remote(*target, kThreads * kPart);
  std::vector<std::byte> local(kThreads * kPart);
  for (int round = 0; round < 10; ++round) {
    std::unique_ptr<Engine> engine = make_engine();
    ASSERT_TRUE(engine->register_memory(local.data(), local.size()).ok());
    const Result<SegmentId> segment = engine->open_segment(target->local_endpoint());
    ASSERT_TRUE(segment.ok());
    std::vector<std::thread> threads;
    std::atomic<int> submitted{0};
    for (uint64_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        submit_new(*engine, {{Opcode::kWrite, local.data() + t * kPart, *segment, t * kPart, kHalf},
                             {Opcode::kRead, local.data() + t * kPart + kHalf, *segment,
                              t * kPart + kHalf, kHalf}});
        ++submitted;
      });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(submitted.load(), kThreads);
    const Stopwatch watch;
    engine.reset();
    EXPECT_LT(watch.ms(), kEndLimitMs);
    std::memset(local.data(), 0x66, local.size());
    std::this_thread::sleep_for(milliseconds(5));
    ASSERT_EQ(other_than(local.data(), local.size(), std::byte{0x66}), kSame);
  }
}

TEST(Lifetime, ATargetEndsUnderLoad) {
  std::unique_ptr<Engine> initiator = make_engine({{"retry_window_ms", "500"}});
  Registered local(*initiator, kThreads * kPart);
  std::unique_ptr<Engine> target = make_engine();
  std::vector<std::byte> remote(kThreads * kPart);
  ASSERT_TRUE(target->register_memory(remote.data(), remote.size()).ok());
  const Result<SegmentId> segment = initiator->open_segment(target->local_endpoint());
  ASSERT_TRUE(segment.ok());
  std::vector<std::thread> threads;
  std::atomic<int> moved{0}, ended{0};
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const TransferRequest request{t % 2 == 0 ? Opcode::kWrite : Opcode::kRead,
                                    local.data() + t * kPart, *segment, t * kPart, kPart};
      for (;;) {
        const BatchId batch = submit_new(*initiator, {request});
        EXPECT_TRUE(initiator->wait(batch, kPatience).ok());
        const TaskState state = initiator->status(batch, 0)->state;
        EXPECT_TRUE(initiator->free_batch(batch).ok());
        if (state != TaskState::kCompleted) break;
        ++moved;
      }
      ++ended;
    });
  }
  EXPECT_TRUE(eventually([&] { return moved.load() > 50; }));
  const Stopwatch watch;
  target.reset();
  EXPECT_LT(watch.ms(), kEndLimitMs);
  // Its memory is its owner's: nothing writes there any more.
  std::memset(remote.data(), 0x12, remote.size());
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ended.load(), kThreads);
  EXPECT_EQ(other_than(remote.data(), remote.size(), std::byte{0x12}), kSame);
}

TEST(Transports, AreInstalledAndTakenAwayUnderLoad) {
  Pair pair;
  ASSERT_TRUE(pair.initiator().install_transport("tcp").ok());
  ASSERT_TRUE(pair.initiator().install_transport("tcp").ok()) << "twice is once";
  ASSERT_TRUE(pair.works());
  for (int round = 0; round < 10; ++round) {
    std::atomic<bool> over{false};
    std::atomic<int> strange{0}, moved{0};
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        const TransferRequest request = pair.write(t << 20, 1 << 20);
        while (!over.load()) {
          const BatchId batch = *pair.initiator().allocate_batch(1);
          const Status submitted = pair.initiator().submit(batch, {&request, 1});
          const Status waited = pair.initiator().wait(batch, kPatience);
          if (!submitted.ok() && submitted.code() != Code::kUnavailable) ++strange;
          if (!waited.ok()) ++strange;
          if (pair.initiator().batch_status(batch)->state == TaskState::kCompleted) ++moved;
          if (!pair.initiator().free_batch(batch).ok()) ++strange;
        }
      });
    }
    // The initiator's and the target's side take turns.
    Engine& engine = round % 2 == 0 ? pair.initiator() : pair.target();
    EXPECT_TRUE(eventually([&] { return moved.load() > 5; }));
    const Stopwatch watch;
    EXPECT_TRUE(engine.uninstall_transport("tcp").ok());
    EXPECT_LT(watch.ms(), kEndLimitMs);
    EXPECT_EQ(engine.uninstall_transport("tcp").code(), Code::kNotFound);
    for (const TransportInfo& transport : engine.transports()) {
      if (transport.name == "tcp") {
        EXPECT_TRUE(transport.available && !transport.installed);
      }
    }
    EXPECT_TRUE(engine.install_transport("tcp").ok());
    over.store(true);
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(strange.load(), 0);
    if (&engine == &pair.target()) {
      EXPECT_TRUE(pair.initiator().sync_segment_cache().ok());
    }
    ASSERT_TRUE(pair.works()) << "round " << round;
  }
}

TEST(Transports, WithoutAnyTheErrorSaysWhatToInstall) {
  Pair pair;
  ASSERT_TRUE(pair.initiator().uninstall_transport("tcp").ok());
  const BatchId batch = *pair.initiator().allocate_batch(1);
  const TransferRequest request = pair.write(0, 100);
  EXPECT_TRUE(
      fails_with(pair.initiator().submit(batch, {&request, 1}), Code::kUnavailable, "transport"));
  EXPECT_TRUE(pair.initiator().free_batch(batch).ok());
  ASSERT_TRUE(pair.initiator().install_transport("tcp").ok());
  EXPECT_TRUE(pair.works());
}

TEST(Lifetime, AnEngineOpensItself) {
  std::unique_ptr<Engine> engine = make_engine();
  Registered memory(*engine, 1 << 20);
  stamp(memory.data(), 1000, 3);
  EXPECT_EQ(*engine->open_segment(engine->local_endpoint()), kLocalSegment);
  EXPECT_EQ(
      transfer(*engine, {{Opcode::kWrite, memory.data(), kLocalSegment, 500'000, 1000}}).state,
      TaskState::kCompleted);
  EXPECT_EQ(difference(memory.data() + 500'000, 1000, 3), kSame);
  EXPECT_TRUE(engine->close_segment(kLocalSegment).ok());
  EXPECT_EQ(transfer(*engine, {{Opcode::kWrite, memory.data(), kLocalSegment, 0, 1000}}).state,
            TaskState::kCompleted);
}

TEST(Lifetime, ProbingAndWarmingUp) {
  Pair pair;
  const std::string name = pair.target().local_endpoint();
  const Result<ProbeResult> probe = pair.initiator().probe(name, 10);
  ASSERT_TRUE(probe.ok()) << probe.status().to_string();
  EXPECT_EQ(probe->round_trips_ns.size(), 10u);
  stamp(pair.remote(), Pair::kSize, 6);
  stamp(pair.local(), Pair::kSize, 7);
  EXPECT_TRUE(pair.initiator().warmup_segment(name).ok());
  EXPECT_TRUE(pair.initiator().warmup_segment(name).ok());
  bool ready = false;
  for (const PathInfo& path : pair.initiator().paths()) {
    if (path.segment != name) continue;
    ready = ready || path.state == "ready";
    EXPECT_GT(path.completed_bytes, 0u) << "it is tried out";
    EXPECT_EQ(path.failed_slices, 0u);
  }
  EXPECT_TRUE(ready);
  EXPECT_EQ(difference(pair.remote(), Pair::kSize, 6), kSame);
  EXPECT_EQ(difference(pair.local(), Pair::kSize, 7), kSame);
  EXPECT_TRUE(fails_with(pair.initiator().warmup_segment("127.0.0.1:1"), Code::kNotFound, "open"));
  EXPECT_FALSE(pair.initiator().probe("127.0.0.1:1", 1).ok());
}

TEST(Lifetime, WarmingUpWhileOthersTransfer) {
  Pair pair;
  const std::string name = pair.target().local_endpoint();
  constexpr uint64_t kStripe = 300'000;
  stamp(pair.remote(), 4 * kStripe, 5);
  std::atomic<bool> over{false};
  std::vector<std::thread> warming;
  for (int i = 0; i < 2; ++i) {
    warming.emplace_back([&] {
      while (!over) EXPECT_TRUE(pair.initiator().warmup_segment(name).ok());
    });
  }
  std::vector<std::thread> moving;
  for (uint64_t t = 0; t < 4; ++t) {
    moving.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) {
        const uint64_t length = i % 2 == 0 ? kStripe : 1 + static_cast<uint64_t>(i) * 40;
        std::memset(pair.local() + t * kStripe, 0, length);
        EXPECT_EQ(transfer(pair.initiator(), {pair.read(t * kStripe, length)}).state,
                  TaskState::kCompleted);
        EXPECT_EQ(std::memcmp(pair.local() + t * kStripe, pair.remote() + t * kStripe, length), 0);
      }
    });
  }
  for (std::thread& thread : moving) thread.join();
  over = true;
  for (std::thread& thread : warming) thread.join();
  EXPECT_TRUE(pair.works());
}

TEST(Lifetime, WarmingUpATargetThatDoesNotAnswerReturns) {
  PeerProcess peer({.size = 1 << 20, .seed = 3});
  ASSERT_TRUE(peer.running());
  std::unique_ptr<Engine> engine = make_engine();
  ASSERT_TRUE(engine->open_segment(peer.segment()).ok());
  ASSERT_TRUE(engine->warmup_segment(peer.segment()).ok());
  peer.stop();
  const Stopwatch watch;
  EXPECT_TRUE(engine->warmup_segment(peer.segment()).ok()) << "the connection stands";
  EXPECT_LT(watch.ms(), 1'000);
}

}  // namespace
}  // namespace te::test
