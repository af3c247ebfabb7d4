// Batches and their ids: finished, freed, foreign and forged ones; cancelling, waiting, deadlines.
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <random>
#include <thread>

#include "engine/pair.h"
#include "support/peer.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

// Every call that takes a batch id refuses this one.
void expect_no_batch(Engine& engine, BatchId id) {
  const std::string text = "batch";
  EXPECT_TRUE(fails_with(engine.status(id, 0), Code::kNotFound, text));
  EXPECT_TRUE(fails_with(engine.batch_status(id), Code::kNotFound, text));
  EXPECT_TRUE(fails_with(engine.task_error(id, 0), Code::kNotFound, text));
  EXPECT_TRUE(fails_with(engine.wait(id, milliseconds(10)), Code::kNotFound, text));
  EXPECT_TRUE(fails_with(engine.cancel(id), Code::kNotFound, text));
  EXPECT_TRUE(fails_with(engine.event_fd(id), Code::kNotFound, text));
  EXPECT_TRUE(fails_with(engine.free_batch(id), Code::kNotFound, text));
  const TransferRequest request;
  EXPECT_TRUE(fails_with(engine.submit(id, {&request, 1}), Code::kNotFound, text));
}

TEST(BatchIds, FinishedOnesKeepTheirStatusUntilFreed) {
  Pair pair;
  const BatchId batch = submit_new(pair.initiator(), {pair.write(0, 1000), pair.write(2000, 500)});
  ASSERT_TRUE(pair.initiator().wait(batch).ok());
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(pair.initiator().status(batch, 0)->state, TaskState::kCompleted);
    EXPECT_EQ(pair.initiator().status(batch, 1)->transferred_bytes, 500u);
    EXPECT_EQ(pair.initiator().batch_status(batch)->transferred_bytes, 1500u);
    EXPECT_TRUE(pair.initiator().wait(batch).ok());
  }
  EXPECT_TRUE(pair.initiator().cancel(batch).ok());
  EXPECT_EQ(pair.initiator().status(batch, 0)->state, TaskState::kCompleted);
  ASSERT_TRUE(pair.initiator().free_batch(batch).ok());
  expect_no_batch(pair.initiator(), batch);
  EXPECT_TRUE(pair.works());
}

TEST(BatchIds, ForeignForgedAndStaleOnesAreRefused) {
  Pair pair;
  Engine& engine = pair.initiator();
  const Result<BatchId> mine = engine.allocate_batch(2);
  const Result<BatchId> theirs = pair.target().allocate_batch(2);
  ASSERT_TRUE(mine.ok() && theirs.ok());
  expect_no_batch(engine, *theirs);
  for (const BatchId forged :
       {BatchId{0}, BatchId{1}, kInvalidBatch, *mine + 1, *mine - 1, *mine ^ (BatchId{1} << 63),
        *mine + (BatchId{1} << 20), *mine + (BatchId{2} << 20), BatchId{0xFFFFF}}) {
    expect_no_batch(engine, forged);
  }
  std::mt19937_64 random(7);
  for (int i = 0; i < 20'000; ++i) {
    ASSERT_EQ(engine.status(random(), 0).code(), Code::kNotFound);
  }
  // The slot is used again, under another id.
  ASSERT_TRUE(engine.free_batch(*mine).ok());
  const Result<BatchId> next = engine.allocate_batch(2);
  ASSERT_TRUE(next.ok());
  EXPECT_NE(*next, *mine);
  expect_no_batch(engine, *mine);
  EXPECT_EQ(engine.status(*next, 0)->state, TaskState::kWaiting);
  EXPECT_TRUE(engine.free_batch(*next).ok());
  EXPECT_TRUE(pair.target().free_batch(*theirs).ok());
  EXPECT_TRUE(pair.works());
}

TEST(BatchIds, TaskIdsOutsideTheBatchAreRefused) {
  Pair pair;
  const BatchId batch = *pair.initiator().allocate_batch(3);
  const TransferRequest request = pair.write(0, 10);
  ASSERT_TRUE(pair.initiator().submit(batch, {&request, 1}).ok());
  ASSERT_TRUE(pair.initiator().wait(batch).ok());
  EXPECT_EQ(pair.initiator().status(batch, 0)->state, TaskState::kCompleted);
  EXPECT_EQ(pair.initiator().status(batch, 2)->state, TaskState::kWaiting);
  for (const size_t task : {size_t{3}, size_t{4}, size_t{1} << 32, SIZE_MAX}) {
    EXPECT_TRUE(fails_with(pair.initiator().status(batch, task), Code::kOutOfRange, "task"));
    EXPECT_TRUE(fails_with(pair.initiator().task_error(batch, task), Code::kOutOfRange, "task"));
  }
  EXPECT_TRUE(pair.initiator().free_batch(batch).ok());
}

TEST(BatchIds, SizesThatCannotBeAreRefused) {
  Pair pair;
  EXPECT_TRUE(fails_with(pair.initiator().allocate_batch(0), Code::kInvalidArgument, "at least"));
  for (const size_t size : {SIZE_MAX, size_t{1} << 40, size_t{UINT32_MAX} + 2}) {
    EXPECT_TRUE(fails_with(pair.initiator().allocate_batch(size), Code::kInvalidArgument, "most"));
  }
  EXPECT_TRUE(pair.works());
}

// One batch is submitted to, read, waited for and freed by threads that know nothing of each other:
// each call succeeds or says that there is no such batch.
TEST(BatchIds, StatusRacesWithFreeing) {
  Pair pair;
  std::atomic<BatchId> current{kInvalidBatch};
  std::atomic<bool> over{false};
  std::atomic<int> strange{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      while (!over.load()) {
        const BatchId batch = current.load();
        const Code code = t % 2 == 0 ? pair.initiator().status(batch, 0).code()
                                     : pair.initiator().wait(batch, milliseconds(1)).code();
        if (code != Code::kOk && code != Code::kNotFound && code != Code::kTimeout) ++strange;
        if (t == 0 && pair.initiator().batch_status(batch).code() == Code::kInternal) ++strange;
      }
    });
  }
  for (int i = 0; i < (kSanitized ? 500 : 3'000); ++i) {
    const BatchId batch = submit_new(pair.initiator(), {pair.write(0, 5000)});
    current.store(batch);
    if (i % 2 == 0) {
      EXPECT_TRUE(pair.initiator().wait(batch).ok());
    }
    EXPECT_TRUE(pair.initiator().free_batch(batch).ok());
  }
  over.store(true);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(strange.load(), 0);
  EXPECT_TRUE(pair.works());
}

// A target that is stopped keeps batches in flight for as long as a test wants.
class StoppedTarget : public testing::Test {
 protected:
  static constexpr uint64_t kSize = 16 << 20;

  StoppedTarget() : peer_({.size = kSize, .seed = 1}), engine_(make_engine()) {
    local_ = std::make_unique<Registered>(*engine_, kSize);
    if (!peer_.running()) return;
    const Result<SegmentId> id = engine_->open_segment(peer_.segment());
    EXPECT_TRUE(id.ok()) << id.status().to_string();
    if (id.ok()) segment_ = *id;
    EXPECT_EQ(transfer(*engine_, {request(Opcode::kRead)}).state, TaskState::kCompleted);
    EXPECT_EQ(difference(local_->data(), kSize, 1), kSame);
    peer_.stop();
  }

  TransferRequest request(Opcode opcode) { return {opcode, local_->data(), segment_, 0, kSize}; }

  PeerProcess peer_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Registered> local_;
  SegmentId segment_ = -1;
};

TEST_F(StoppedTarget, FreeingInFlightWaitsForTheEnd) {
  const BatchId batch = submit_new(*engine_, {request(Opcode::kRead)}, within(300));
  const Stopwatch watch;
  ASSERT_TRUE(engine_->free_batch(batch).ok());
  EXPECT_GE(watch.ms(), 250);
  EXPECT_LT(watch.ms(), 2'000);
  EXPECT_EQ(engine_->free_batch(batch).code(), Code::kNotFound);
}

TEST_F(StoppedTarget, FreeingTwiceAtOnceFreesOnce) {
  const BatchId batch = submit_new(*engine_, {request(Opcode::kRead)}, within(300));
  std::atomic<int> freed{0}, refused{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const Code code = engine_->free_batch(batch).code();
      ++(code == Code::kOk ? freed : refused);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(freed.load(), 1);
  EXPECT_EQ(refused.load(), 3);
}

TEST_F(StoppedTarget, WaitingHasItsOwnLimit) {
  const BatchId batch = submit_new(*engine_, {request(Opcode::kWrite)}, within(1'000));
  const Stopwatch watch;
  EXPECT_TRUE(fails_with(engine_->wait(batch, milliseconds(100)), Code::kTimeout, "in flight"));
  EXPECT_GE(watch.ms(), 95);
  EXPECT_LT(watch.ms(), 900);
  EXPECT_EQ(engine_->wait(batch, milliseconds(0)).code(), Code::kTimeout);
  EXPECT_EQ(engine_->status(batch, 0)->state, TaskState::kPending);
  EXPECT_TRUE(engine_->task_error(batch, 0)->status.ok());
  pollfd entry{*engine_->event_fd(batch), POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, 0), 0);
  EXPECT_TRUE(engine_->wait(batch).ok());
  EXPECT_EQ(engine_->status(batch, 0)->state, TaskState::kTimeout);
  EXPECT_TRUE(fails_with(engine_->task_error(batch, 0)->status, Code::kTimeout, "deadline"));
  EXPECT_EQ(::poll(&entry, 1, 0), 1);
  EXPECT_TRUE(engine_->free_batch(batch).ok());
}

TEST_F(StoppedTarget, CancellingEndsWhatIsInFlightSoonAndForGood) {
  for (const Opcode opcode : {Opcode::kRead, Opcode::kWrite}) {
    const BatchId batch = submit_new(*engine_, {request(opcode)});
    const Stopwatch watch;
    ASSERT_TRUE(engine_->cancel(batch).ok());
    ASSERT_TRUE(engine_->cancel(batch).ok());
    ASSERT_TRUE(engine_->wait(batch, kPatience).ok());
    EXPECT_LT(watch.ms(), 1'000);
    EXPECT_EQ(engine_->status(batch, 0)->state, TaskState::kCancelled);
    EXPECT_TRUE(fails_with(engine_->task_error(batch, 0)->status, Code::kCancelled, "cancel"));
    EXPECT_TRUE(engine_->free_batch(batch).ok());
  }
  peer_.signal(SIGCONT);
  EXPECT_EQ(transfer(*engine_, {request(Opcode::kWrite)}).state, TaskState::kCompleted);
}

TEST_F(StoppedTarget, EachSubmissionOfABatchHasItsOwnDeadline) {
  const BatchId batch = *engine_->allocate_batch(3);
  TransferRequest small = request(Opcode::kRead);
  small.length = 1000;
  ASSERT_TRUE(engine_->submit(batch, {&small, 1}, within(0)).ok());
  ASSERT_TRUE(engine_->submit(batch, {&small, 1}, within(400)).ok());
  ASSERT_TRUE(engine_->submit(batch, {&small, 1}, within(60'000)).ok());
  EXPECT_TRUE(eventually([&] { return engine_->status(batch, 0)->state == TaskState::kTimeout; },
                         milliseconds(350)));
  EXPECT_EQ(engine_->status(batch, 1)->state, TaskState::kPending);
  EXPECT_TRUE(eventually([&] { return engine_->status(batch, 1)->state == TaskState::kTimeout; }));
  EXPECT_EQ(engine_->status(batch, 2)->state, TaskState::kPending);
  EXPECT_EQ(engine_->batch_status(batch)->state, TaskState::kPending);
  peer_.signal(SIGCONT);
  ASSERT_TRUE(engine_->wait(batch, kPatience).ok());
  EXPECT_EQ(engine_->status(batch, 2)->state, TaskState::kCompleted);
  EXPECT_EQ(engine_->batch_status(batch)->state, TaskState::kTimeout) << "the worst end";
  EXPECT_TRUE(engine_->free_batch(batch).ok());
}

}  // namespace
}  // namespace te::test
