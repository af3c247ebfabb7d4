#include "core/batch.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <random>
#include <set>
#include <thread>

#include "support/facts.h"

namespace te {
namespace {

BatchId must_allocate(BatchTable& table, uint64_t size) {
  const Result<BatchId> id = table.allocate(size);
  EXPECT_TRUE(id.ok()) << id.status().to_string();
  return id.ok() ? *id : kInvalidBatch;
}

void release(BatchTable& table, Batch* batch) {
  MutexLock lock(batch->mutex);
  table.release(*batch);
}

TEST(BatchTable, FindsWhatWasAllocated) {
  BatchTable table;
  const BatchId id = must_allocate(table, 5);
  EXPECT_NE(id, kInvalidBatch);
  Batch* batch = table.find(id);
  ASSERT_NE(batch, nullptr);
  EXPECT_TRUE(table.is(*batch, id));
  EXPECT_EQ(BatchTable::id_of(*batch), id);
  EXPECT_EQ(batch->size, 5u);
  EXPECT_EQ(batch->submitted, 0u);
  ASSERT_NE(batch->block.load(), nullptr);
  EXPECT_GE(batch->block.load()->capacity, 5u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(batch->block.load()->tasks[i].state, TaskState::kWaiting);
  }
  release(table, batch);
}

TEST(BatchTable, SizesAreChecked) {
  BatchTable table;
  EXPECT_EQ(table.allocate(0).code(), Code::kInvalidArgument);
  for (const uint64_t size : {BatchTable::kMaxSize + 1, uint64_t{1} << 32, UINT64_MAX}) {
    const Result<BatchId> id = table.allocate(size);
    ASSERT_EQ(id.code(), Code::kInvalidArgument);
    EXPECT_NE(id.status().message().find(std::to_string(BatchTable::kMaxSize)), std::string::npos);
  }
  int live = 0;
  table.for_each_live([&](Batch&) { ++live; });
  EXPECT_EQ(live, 0);
}

// The limit would bind the other tests too, so a child has it.
TEST(BatchTable, ALackOfMemoryIsAnError) {
  if (test::kSanitized) GTEST_SKIP() << "sanitizers do not run with a limited address space";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto with_little_memory = [] {
    BatchTable table;
    const rlimit limit{1u << 29, 1u << 29};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) ::_exit(2);
    const Result<BatchId> id = table.allocate(BatchTable::kMaxSize);
    std::fprintf(stderr, "%s\n", id.status().to_string().c_str());
    if (id.code() != Code::kResource) ::_exit(1);
    // What fits is given all the same, and nothing was lost.
    for (int i = 0; i < 2'000; ++i) {
      Batch* batch = table.find(must_allocate(table, 1'000));
      if (batch == nullptr) ::_exit(3);
      release(table, batch);
    }
    ::_exit(0);
  };
  EXPECT_EXIT(with_little_memory(), testing::ExitedWithCode(0),
              "resource: .* 4194304 requests \\([0-9]+ MiB\\): allocate smaller");
}

TEST(BatchTable, EverySizeGetsRoomEnough) {
  BatchTable table;
  for (uint64_t size = 1; size <= 1'100; ++size) {
    Batch* batch = table.find(must_allocate(table, size));
    ASSERT_NE(batch, nullptr);
    EXPECT_GE(batch->block.load()->capacity, size);
    EXPECT_LT(batch->block.load()->capacity, 2 * size);
    release(table, batch);
  }
}

TEST(BatchTable, AStaleIdIsFoundNoMore) {
  BatchTable table;
  const BatchId old = must_allocate(table, 1);
  Batch* batch = table.find(old);
  release(table, batch);
  EXPECT_EQ(table.find(old), nullptr);
  EXPECT_FALSE(table.is(*batch, old));
  const BatchId now = must_allocate(table, 1);
  ASSERT_EQ(table.find(now), batch);  // the same slot, another generation
  EXPECT_NE(now, old);
  EXPECT_EQ(table.find(old), nullptr);
  EXPECT_FALSE(table.is(*batch, old));
}

TEST(BatchTable, ForgedIdsAreNotFound) {
  BatchTable table;
  EXPECT_EQ(table.find(0), nullptr);  // nothing was allocated yet
  std::set<BatchId> live;
  for (int i = 0; i < 10; ++i) live.insert(must_allocate(table, 1));
  for (const BatchId id :
       {BatchId{0}, BatchId{1}, BatchId{1} << 20, kInvalidBatch, kInvalidBatch - 1}) {
    EXPECT_EQ(table.find(id), nullptr) << id;
  }
  for (const BatchId id : live) {
    for (int bit = 0; bit < 64; ++bit) {
      const BatchId forged = id ^ (BatchId{1} << bit);
      EXPECT_EQ(table.find(forged) != nullptr, live.contains(forged)) << forged;
    }
  }
  std::mt19937_64 random(3);
  for (int i = 0; i < 100'000; ++i) EXPECT_EQ(table.find(random()), nullptr);
}

TEST(BatchTable, IdsOfAnotherTableAreNotFound) {
  BatchTable mine, other;
  for (int i = 0; i < 300; ++i) {
    must_allocate(mine, 1);
    EXPECT_EQ(mine.find(must_allocate(other, 1)), nullptr);
  }
}

TEST(BatchTable, AllocatingAndReleasingDoesNotGrow) {
  BatchTable table;
  std::set<BatchId> ids;
  std::set<const Batch*> batches;
  std::set<const TaskBlock*> blocks;
  for (int i = 0; i < 10'000; ++i) {
    const BatchId id = must_allocate(table, 100);
    EXPECT_TRUE(ids.insert(id).second);
    Batch* batch = table.find(id);
    ASSERT_NE(batch, nullptr);
    batches.insert(batch);
    blocks.insert(batch->block.load());
    release(table, batch);
  }
  EXPECT_EQ(batches.size(), 1u);
  EXPECT_EQ(blocks.size(), 1u);
}

TEST(BatchTable, BlocksOfOtherSizesAreNotMixedUp) {
  BatchTable table;
  std::mt19937 random(5);
  std::set<const TaskBlock*> blocks;
  std::vector<Batch*> live;
  for (int i = 0; i < 10'000; ++i) {
    if (live.size() < 20) {
      const uint64_t size = 1 + random() % 200;
      Batch* batch = table.find(must_allocate(table, size));
      ASSERT_GE(batch->block.load()->capacity, size);
      blocks.insert(batch->block.load());
      for (const Batch* other : live) ASSERT_NE(other->block.load(), batch->block.load());
      live.push_back(batch);
    } else {
      const size_t pick = random() % live.size();
      release(table, live[pick]);
      live.erase(live.begin() + static_cast<ptrdiff_t>(pick));
    }
  }
  EXPECT_LE(blocks.size(), 20u * 9);  // at most 20 at once of each of nine sizes
}

TEST(BatchTable, ManyAtOnce) {
  BatchTable table;
  std::set<BatchId> ids;
  for (int i = 0; i < 3'000; ++i) ids.insert(must_allocate(table, 2));
  EXPECT_EQ(ids.size(), 3'000u);
  std::set<const Batch*> seen;
  table.for_each_live([&](Batch& batch) {
    seen.insert(&batch);
    EXPECT_TRUE(ids.contains(BatchTable::id_of(batch)));
  });
  EXPECT_EQ(seen.size(), 3'000u);
  for (const BatchId id : ids) release(table, table.find(id));
  table.for_each_live([](Batch&) { ADD_FAILURE() << "a batch is left"; });
}

TEST(BatchTable, AReleasedBatchLeavesNothingToTheNext) {
  BatchTable table;
  Batch* batch = table.find(must_allocate(table, 4));
  TaskBlock* block = batch->block;
  batch->submitted = 3;
  batch->deadline_ns = 17;
  for (size_t i = 0; i < 3; ++i) {
    block->tasks[i].state = TaskState::kFailed;
    block->tasks[i].transferred = 99;
  }
  {
    MutexLock lock(batch->mutex);
    batch->closing = true;
    for (int i = 0; i < 6; ++i) batch->submissions.push_back(std::make_unique<Submission>());
    batch->submissions_used = 6;
    batch->submissions[0]->failed = true;
    batch->submissions[0]->cancel = Code::kTimeout;
    batch->submissions[0]->notification = Notification{"a", "b"};
    batch->submissions[0]->deadline_ns = 17;
  }
  release(table, batch);
  ASSERT_EQ(table.find(must_allocate(table, 4)), batch);
  EXPECT_EQ(batch->block, block);
  EXPECT_EQ(batch->submitted, 0u);
  EXPECT_EQ(batch->deadline_ns, kNever);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(block->tasks[i].state, TaskState::kWaiting);
    EXPECT_EQ(block->tasks[i].transferred, 0u);
  }
  MutexLock lock(batch->mutex);
  EXPECT_FALSE(batch->closing);
  EXPECT_EQ(batch->submissions_used, 0u);
  EXPECT_LE(batch->submissions.size(), 4u);
  EXPECT_FALSE(batch->submissions[0]->failed);
  EXPECT_EQ(batch->submissions[0]->cancel, Code::kOk);
  EXPECT_FALSE(batch->submissions[0]->notification.has_value());
  EXPECT_EQ(batch->submissions[0]->deadline_ns, 0);
}

TEST(BatchTable, ThreadsGetBatchesOfTheirOwn) {
  BatchTable table;
  std::vector<std::thread> threads;
  for (uint32_t mine = 1; mine <= 4; ++mine) {
    threads.emplace_back([&table, mine] {
      for (int i = 0; i < 3'000; ++i) {
        const Result<BatchId> id = table.allocate(8);
        ASSERT_TRUE(id.ok());
        Batch* batch = table.find(*id);
        ASSERT_NE(batch, nullptr);
        batch->active = mine;
        batch->block.load()->tasks[0].length = mine;
        ASSERT_TRUE(table.is(*batch, *id));
        ASSERT_EQ(batch->active, mine);
        ASSERT_EQ(batch->block.load()->tasks[0].length, mine);
        batch->active = 0;
        release(table, batch);
        ASSERT_EQ(table.find(*id), nullptr);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Slice, IsCancelledWithItsSubmission) {
  Submission submission;
  Task task;
  task.submission = &submission;
  task.first.task = &task;
  EXPECT_FALSE(task.first.cancelled());
  submission.cancel = Code::kTimeout;
  EXPECT_TRUE(task.first.cancelled());
}

}  // namespace
}  // namespace te
