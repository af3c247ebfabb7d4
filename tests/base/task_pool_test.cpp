#include "base/task_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <semaphore>
#include <set>
#include <thread>

#include "base/clock.h"
#include "base/mutex.h"

namespace te {
namespace {

TEST(TaskPool, RunsEverythingBeforeItEnds) {
  std::atomic<int> ran{0};
  {
    TaskPool pool(3);
    for (int i = 0; i < 1'000; ++i) EXPECT_TRUE(pool.run([&ran] { ++ran; }));
  }
  EXPECT_EQ(ran, 1'000);
}

TEST(TaskPool, NeverHasMoreThreadsThanAllowed) {
  Mutex mutex;
  std::set<std::thread::id> threads;
  {
    TaskPool pool(3);
    for (int i = 0; i < 1'000; ++i) {
      pool.run([&] {
        MutexLock lock(mutex);
        threads.insert(std::this_thread::get_id());
      });
    }
  }
  EXPECT_GE(threads.size(), 1u);
  EXPECT_LE(threads.size(), 3u);
}

TEST(TaskPool, ATaskThatBlocksDoesNotHoldUpOthers) {
  std::binary_semaphore release{0}, ran{0};
  TaskPool pool(2);
  EXPECT_TRUE(pool.run([&] { release.acquire(); }));
  EXPECT_TRUE(pool.run([&] { ran.release(); }));
  ran.acquire();  // hangs when the second waits for the first
  release.release();
}

TEST(TaskPool, ATaskMayHandOverAnother) {
  std::binary_semaphore ran{0};
  TaskPool pool(1);
  EXPECT_TRUE(pool.run([&] { EXPECT_TRUE(pool.run([&] { ran.release(); })); }));
  ran.acquire();
}

TEST(TaskPool, StopWaitsAndThenRefuses) {
  std::atomic<int> ran{0};
  std::binary_semaphore started{0};
  TaskPool pool(2);
  pool.run([&] {
    started.release();
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    ++ran;
  });
  started.acquire();
  pool.stop();
  EXPECT_EQ(ran, 1);
  EXPECT_FALSE(pool.run([&] { ++ran; }));
  pool.stop();
  EXPECT_EQ(ran, 1);
}

TEST(TaskPool, StopsWithoutHavingRunAnything) {
  TaskPool pool(2);
  pool.stop();
  EXPECT_FALSE(pool.run([] {}));
}

// Comes back to the pool when the task that held it is destroyed.
struct HandsOverAtItsEnd {
  TaskPool& pool;
  std::binary_semaphore& ran;
  ~HandsOverAtItsEnd() {
    pool.run([this_ran = &ran] { this_ran->release(); });
  }
};

TEST(TaskPool, WhatATaskHeldMayUseThePoolWhenItIsDestroyed) {
  std::binary_semaphore ran{0};
  TaskPool pool(2);
  auto held = std::make_shared<HandsOverAtItsEnd>(HandsOverAtItsEnd{pool, ran});
  pool.run([held = std::move(held)] {});
  ran.acquire();  // hangs when the pool's lock is held meanwhile
}

TEST(TaskPool, GrowsForTasksThatWaitAndShrinksAgain) {
  std::binary_semaphore release{0}, ran{0};
  TaskPool pool(1);
  EXPECT_TRUE(pool.run([&] { release.acquire(); }));
  EXPECT_TRUE(pool.run([&] { ran.release(); }));
  pool.grow(1);  // as many as are allowed are there
  EXPECT_FALSE(ran.try_acquire_for(std::chrono::milliseconds(20)));
  pool.grow(2);
  ran.acquire();
  release.release();
  pool.stop();
}

TEST(TaskPool, AbandonedTasksGoOnWithoutIt) {
  struct Shared {
    std::binary_semaphore started{0}, release{0}, over{0};
  };
  const auto shared = std::make_shared<Shared>();
  std::atomic<int> ran{0};
  {
    TaskPool pool(1);
    EXPECT_TRUE(pool.run([shared] {
      shared->started.release();
      shared->release.acquire();
      shared->over.release();
    }));
    EXPECT_TRUE(pool.run([&ran] { ++ran; }));
    shared->started.acquire();
    pool.abandon(now_ns() + 10 * kNsPerMs);
    EXPECT_FALSE(pool.run([&ran] { ++ran; }));
  }
  shared->release.release();
  shared->over.acquire();
  EXPECT_EQ(ran, 0) << "what had not begun was not dropped";
}

TEST(TaskPool, AbandonedInTimeItLeavesNothingBehind) {
  std::atomic<int> ran{0};
  std::binary_semaphore started{0};
  TaskPool pool(2);
  pool.run([&] {
    started.release();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ++ran;
  });
  started.acquire();
  pool.abandon(now_ns() + 60'000 * kNsPerMs);
  EXPECT_EQ(ran, 1);
}

}  // namespace
}  // namespace te
