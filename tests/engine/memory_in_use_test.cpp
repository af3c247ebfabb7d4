// Unregistering memory that is in use, at either end: it returns when nothing touches the memory
// any more, and what was under way completes whole or fails.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/log.h"
#include "engine/pair.h"
#include "support/peer.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kSize = 32 << 20;

// Nothing writes there for a while.
testing::AssertionResult stays(const std::byte* at, size_t length, std::byte value) {
  for (int i = 0; i < 10; ++i) {
    if (const size_t where = other_than(at, length, value); where != kSame) {
      return testing::AssertionFailure() << "byte " << where << " was written to";
    }
    std::this_thread::sleep_for(milliseconds(10));
  }
  return testing::AssertionSuccess();
}

TEST(MemoryInUse, LocalMemoryOfAReadIsLetGoWhenTheTaskEnded) {
  PeerProcess peer({.size = kSize, .seed = 3});
  ASSERT_TRUE(peer.running());
  std::unique_ptr<Engine> engine = make_engine();
  std::vector<std::byte> local(kSize);
  ASSERT_TRUE(engine->register_memory(local.data(), kSize).ok());
  const Result<SegmentId> segment = engine->open_segment(peer.segment());
  ASSERT_TRUE(segment.ok()) << segment.status().to_string();
  const TransferRequest read{Opcode::kRead, local.data(), *segment, 0, kSize};
  ASSERT_EQ(transfer(*engine, {read}).state, TaskState::kCompleted);
  peer.stop();
  const BatchId batch = submit_new(*engine, {read}, within(400));
  std::atomic<bool> refused{false};
  std::thread second([&] {
    // The buffer is on its way out: no new request may use it.
    refused = eventually(
        [&] {
          const BatchId late = *engine->allocate_batch(1);
          const Status status = engine->submit(late, {&read, 1}, within(1));
          EXPECT_TRUE(engine->free_batch(late).ok());
          return status.code() == Code::kBusy;
        },
        milliseconds(300));
  });
  const Stopwatch watch;
  EXPECT_TRUE(engine->unregister_memory(local.data()).ok());
  const int64_t waited = watch.ms();
  second.join();
  EXPECT_GE(waited, 300) << "the READ was still in flight";
  EXPECT_LT(waited, 3'000);
  EXPECT_TRUE(refused);
  EXPECT_TRUE(is_terminal(engine->status(batch, 0)->state));
  std::memset(local.data(), 0x77, kSize);
  peer.signal(SIGCONT);
  EXPECT_TRUE(stays(local.data(), kSize, std::byte{0x77}));
  EXPECT_TRUE(engine->free_batch(batch).ok());
}

TEST(MemoryInUse, LocalMemoryUnderLoadIsLetGoInTurn) {
  Pair pair;
  constexpr uint64_t kLength = 8 << 20;
  Registered remote(pair.target(), kLength);
  const auto there = reinterpret_cast<uint64_t>(remote.data());
  ASSERT_TRUE(pair.initiator().sync_segment_cache().ok());
  std::vector<std::byte> local(kLength);
  for (int round = 0; round < 20; ++round) {
    const Opcode opcode = round % 2 == 0 ? Opcode::kRead : Opcode::kWrite;
    ASSERT_TRUE(pair.initiator().register_memory(local.data(), kLength).ok());
    stamp(remote.data(), kLength, 50);
    stamp(local.data(), kLength, 60);
    const BatchId batch =
        submit_new(pair.initiator(), {{opcode, local.data(), pair.segment(), there, kLength}});
    ASSERT_TRUE(pair.initiator().unregister_memory(local.data()).ok());
    ASSERT_EQ(pair.initiator().status(batch, 0)->state, TaskState::kCompleted);
    const uint64_t seed = opcode == Opcode::kRead ? 50 : 60;
    ASSERT_EQ(difference(local.data(), kLength, seed), kSame);
    ASSERT_EQ(difference(remote.data(), kLength, seed), kSame);
    ASSERT_TRUE(pair.initiator().free_batch(batch).ok());
  }
}

// What became of the batches that ran while the target's memory went away.
struct Ends {
  std::atomic<int> completed{0};
  int failed = 0;
  int strange = 0;
  int torn = 0;
  std::string error;
};

struct Access {
  const char* transport;
  Opcode opcode;
};

class RemoteMemory : public testing::TestWithParam<Access> {
 protected:
  static constexpr uint64_t kPart = 4 << 20;
  static constexpr int kThreads = 4;

  RemoteMemory()
      : peer_({.size = kThreads * kPart, .seed = 9}),
        engine_(make_engine({}, GetParam().transport)) {
    local_ = std::make_unique<Registered>(*engine_, kThreads * kPart);
    const Result<SegmentId> id = engine_->open_segment(peer_.segment());
    EXPECT_TRUE(id.ok()) << id.status().to_string();
    if (id.ok()) segment_ = *id;
  }

  // Until a request is refused or fails.
  void load(int index, Ends& ends) {
    const uint64_t at = static_cast<uint64_t>(index) * kPart;
    std::byte* mine = local_->data() + at;
    const TransferRequest request{GetParam().opcode, mine, segment_, peer_.address() + at, kPart};
    for (;;) {
      const BatchId batch = *engine_->allocate_batch(1);
      const Status submitted = engine_->submit(batch, {&request, 1});
      if (!submitted.ok()) ends.error = submitted.to_string();
      if (submitted.ok()) {
        EXPECT_TRUE(engine_->wait(batch, kPatience).ok());
        count(batch, mine, ends);
      }
      EXPECT_TRUE(engine_->free_batch(batch).ok());
      if (!ends.error.empty()) return;
    }
  }

  void count(BatchId batch, const std::byte* mine, Ends& ends) {
    const TaskState state = engine_->status(batch, 0)->state;
    if (state == TaskState::kCompleted) {
      ++ends.completed;
      // The target scribbles over its memory as soon as it is unregistered.
      const bool whole =
          GetParam().opcode == Opcode::kWrite || other_than(mine, kPart, kOld) == kSame;
      if (!whole) ++ends.torn;
      return;
    }
    ++(state == TaskState::kFailed ? ends.failed : ends.strange);
    ends.error = engine_->task_error(batch, 0)->status.to_string();
  }

  static constexpr std::byte kOld{0x21};

  PeerProcess peer_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Registered> local_;
  SegmentId segment_ = -1;
};

TEST_P(RemoteMemory, IsLetGoWhenNoPeerTouchesItAnyMore) {
  std::memset(local_->data(), 0x21, local_->size());
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(peer_.ask("fill 33"), "ok");
    std::vector<Ends> ends(kThreads);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] { load(t, ends[static_cast<size_t>(t)]); });
    }
    EXPECT_TRUE(eventually([&ends] {
      return std::all_of(ends.begin(), ends.end(),
                         [](const Ends& end) { return end.completed > 1; });
    }));
    EXPECT_EQ(peer_.ask("unregister"), "ok");
    // From here on the memory is the target's alone: nobody writes over this, nobody reads it.
    EXPECT_EQ(peer_.ask("fill 85"), "ok");
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(peer_.ask("filled 85"), "same");
      std::this_thread::sleep_for(milliseconds(10));
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(peer_.ask("filled 85"), "same");
    for (const Ends& end : ends) {
      EXPECT_EQ(end.strange, 0) << end.error;
      EXPECT_EQ(end.torn, 0);
      EXPECT_NE(end.error.find(peer_.segment()), std::string::npos)
          << "the error names the segment: " << end.error;
    }
    // Registered again, it serves again, on the same segment.
    ASSERT_EQ(peer_.ask("register"), "ok");
    ASSERT_EQ(transfer(*engine_, {{Opcode::kWrite, local_->data(), segment_, peer_.address(),
                                   kThreads * kPart}})
                  .state,
              TaskState::kCompleted);
    std::memset(local_->data(), 0x21, local_->size());
  }
}

INSTANTIATE_TEST_SUITE_P(Over, RemoteMemory,
                         testing::Values(Access{"tcp", Opcode::kRead},
                                         Access{"tcp", Opcode::kWrite},
                                         Access{"shm", Opcode::kRead},
                                         Access{"shm", Opcode::kWrite}),
                         [](const auto& test) {
                           return std::string(test.param.transport) +
                                  (test.param.opcode == Opcode::kRead ? "Reads" : "Writes");
                         });

TEST(MemoryInUse, UnregisteringOfOneBufferDisturbsNoOther) {
  Pair pair;
  std::atomic<bool> over{false};
  std::atomic<int> wrong{0}, rounds{0};
  std::thread load([&] {
    for (; !over.load(); ++rounds) {
      if (transfer(pair.initiator(), {pair.write(0, 1 << 20), pair.read(1 << 20, 1 << 20)}).state !=
          TaskState::kCompleted) {
        ++wrong;
      }
    }
  });
  std::vector<std::byte> other(1 << 16);
  for (int i = 0; i < 500 || rounds.load() < 20; ++i) {
    EXPECT_TRUE(pair.target().register_memory(other.data(), other.size()).ok());
    EXPECT_TRUE(pair.target().unregister_memory(other.data()).ok());
  }
  over.store(true);
  load.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_TRUE(pair.works());
}

}  // namespace
}  // namespace te::test
