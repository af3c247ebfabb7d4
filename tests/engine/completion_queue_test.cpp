// The engine's queue of batches that ended.
#include "engine/completion_queue.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <map>
#include <thread>

#include "engine/pair.h"

namespace te::test {
namespace {

bool is_readable_now(int fd) {
  pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, 0) == 1;
}

BatchId queued(Engine& engine, size_t size = 1) {
  const Result<BatchId> batch = engine.allocate_batch(size, {.completion_queue = true});
  EXPECT_TRUE(batch.ok()) << batch.status().to_string();
  return *batch;
}

void run(Pair& pair, BatchId batch) {
  const TransferRequest request = pair.write(0, 1000);
  ASSERT_TRUE(pair.initiator().submit(batch, {&request, 1}).ok());
  ASSERT_TRUE(pair.initiator().wait(batch).ok());
}

std::vector<BatchId> take(Engine& engine, size_t most = 8) {
  std::vector<Completion> taken(most);
  taken.resize(engine.take_completions(taken));
  std::vector<BatchId> ids;
  for (const Completion& each : taken) ids.push_back(each.batch);
  return ids;
}

TEST(CompletionQueue, HasWhatEndedOldestFirstAndOnce) {
  Pair pair;
  Engine& engine = pair.initiator();
  const int fd = *engine.completion_fd();
  EXPECT_EQ(*engine.completion_fd(), fd);
  const BatchId first = queued(engine), second = queued(engine), other = *engine.allocate_batch(1);
  EXPECT_FALSE(is_readable_now(fd));
  EXPECT_TRUE(take(engine).empty()) << "nothing was submitted";
  for (const BatchId batch : {second, other, first}) run(pair, batch);
  EXPECT_TRUE(is_readable_now(fd));
  EXPECT_EQ(take(engine, 1), std::vector<BatchId>{second});
  EXPECT_TRUE(is_readable_now(fd));
  EXPECT_EQ(take(engine), std::vector<BatchId>{first});
  EXPECT_FALSE(is_readable_now(fd));
  for (const BatchId batch : {first, second, other}) EXPECT_TRUE(engine.free_batch(batch).ok());
}

TEST(CompletionQueue, TellsHowABatchEnded) {
  Pair pair;
  const BatchId batch = queued(pair.initiator(), 2);
  TransferRequest bad = pair.write(0, 100);
  bad.target_offset = uint64_t{1} << 40;
  const TransferRequest requests[] = {pair.write(0, 1000), bad};
  ASSERT_TRUE(pair.initiator().submit(batch, requests, {.timeout = std::chrono::seconds(20)}).ok());
  ASSERT_TRUE(pair.initiator().wait(batch).ok());
  Completion taken;
  ASSERT_EQ(pair.initiator().take_completions({&taken, 1}), 1u);
  EXPECT_EQ(taken.batch, batch);
  EXPECT_EQ(taken.status.state, TaskState::kFailed);
  EXPECT_EQ(taken.status.transferred_bytes, 1000u);
  EXPECT_TRUE(pair.initiator().free_batch(batch).ok());
}

TEST(CompletionQueue, ForgetsWhatIsFreedOrUsedAgain) {
  Pair pair;
  Engine& engine = pair.initiator();
  const int fd = *engine.completion_fd();
  const BatchId freed = queued(engine), again = queued(engine, 2);
  run(pair, freed);
  run(pair, again);
  EXPECT_TRUE(engine.free_batch(freed).ok());
  EXPECT_TRUE(is_readable_now(fd));
  run(pair, again);
  EXPECT_EQ(take(engine), std::vector<BatchId>{again}) << "once, for what ended last";
  EXPECT_FALSE(is_readable_now(fd));
  EXPECT_TRUE(engine.free_batch(again).ok());
  // Its slot serves a batch that has nothing to report.
  run(pair, *engine.allocate_batch(1));
  EXPECT_TRUE(take(engine).empty());
}

// One thread submits, another takes and frees: each batch comes exactly once.
TEST(CompletionQueue, EveryBatchComesOnceAmongThreads) {
  constexpr int kThreads = 3, kRounds = 400;
  Pair pair;
  Engine& engine = pair.initiator();
  const int fd = *engine.completion_fd();
  std::atomic<int> seen{0};
  std::atomic<int> wrong{0};
  std::thread taker([&] {
    while (seen < kThreads * kRounds) {
      pollfd entry{fd, POLLIN, 0};
      if (::poll(&entry, 1, 20'000) != 1) return;
      Completion taken[16];
      const size_t count = engine.take_completions(taken);
      for (size_t i = 0; i < count; ++i) {
        if (taken[i].status.state != TaskState::kCompleted) ++wrong;
        if (!engine.free_batch(taken[i].batch).ok()) ++wrong;
        ++seen;
      }
    }
  });
  std::vector<std::thread> submitters;
  for (int i = 0; i < kThreads; ++i) {
    submitters.emplace_back([&, i] {
      for (int round = 0; round < kRounds; ++round) {
        const TransferRequest request = pair.write(static_cast<uint64_t>(i) * 4096, 4096);
        if (!engine.submit(queued(engine), {&request, 1}).ok()) ++wrong;
      }
    });
  }
  for (std::thread& thread : submitters) thread.join();
  taker.join();
  EXPECT_EQ(seen, kThreads * kRounds);
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(take(engine).empty());
}

}  // namespace
}  // namespace te::test
