#include "base/mutex.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace te {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kCallers = 4;
constexpr int kRounds = 20'000;
constexpr milliseconds kLongEnoughToSleep(20);

template <typename Work>
void on_threads(int count, Work&& work) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back([&work, i] { work(i); });
  for (std::thread& thread : threads) thread.join();
}

struct Counter {
  Mutex mutex;
  CondVar changed;
  int value TE_GUARDED_BY(mutex) = 0;

  int read() {
    MutexLock lock(mutex);
    return value;
  }
};

TEST(Mutex, OneThreadAtATimeHoldsIt) {
  Counter counter;
  on_threads(kCallers, [&](int) {
    for (int i = 0; i < kRounds; ++i) {
      MutexLock lock(counter.mutex);
      const int seen = counter.value;
      if (i % 64 == 0) std::this_thread::yield();
      counter.value = seen + 1;
    }
  });
  EXPECT_EQ(counter.read(), kCallers * kRounds);
}

TEST(Mutex, ATryFailsWhileAnotherThreadHoldsItAndNotAfterwards) {
  Mutex mutex;
  bool taken = true;
  const auto attempt = [&](int) {
    taken = mutex.try_lock();
    if (taken) mutex.unlock();
  };
  {
    MutexLock lock(mutex);
    on_threads(1, attempt);
  }
  EXPECT_FALSE(taken);
  on_threads(1, attempt);
  EXPECT_TRUE(taken);
}

TEST(Mutex, EveryThreadThatSleepsForItGetsIt) {
  Counter counter;
  counter.mutex.lock();
  std::vector<std::thread> sleepers;
  for (int i = 0; i < kCallers; ++i) {
    sleepers.emplace_back([&] {
      MutexLock lock(counter.mutex);
      ++counter.value;
    });
  }
  std::this_thread::sleep_for(kLongEnoughToSleep);
  EXPECT_EQ(counter.value, 0);
  counter.mutex.unlock();
  for (std::thread& sleeper : sleepers) sleeper.join();
  EXPECT_EQ(counter.read(), kCallers);
}

TEST(CondVar, NoWakeIsLostBetweenTwoThatTakeTurns) {
  Counter counter;
  on_threads(2, [&](int self) {
    for (int i = 0; i < kRounds; ++i) {
      MutexLock lock(counter.mutex);
      while (counter.value % 2 != self) counter.changed.wait(counter.mutex);
      ++counter.value;
      counter.changed.notify_one();
    }
  });
  EXPECT_EQ(counter.read(), 2 * kRounds);
}

TEST(CondVar, AllAreWokenAlsoByWhoLetGoOfTheMutexBefore) {
  Counter counter;
  std::atomic<int> through{0};
  std::thread notifier([&] {
    for (int round = 1; round <= 200; ++round) {
      {
        MutexLock lock(counter.mutex);
        counter.value = round;
      }
      counter.changed.notify_all();
      while (through.load() < round * kCallers) std::this_thread::yield();
    }
  });
  on_threads(kCallers, [&](int) {
    for (int round = 1; round <= 200; ++round) {
      {
        MutexLock lock(counter.mutex);
        while (counter.value < round) counter.changed.wait(counter.mutex);
      }
      through.fetch_add(1);
    }
  });
  notifier.join();
  EXPECT_EQ(through.load(), 200 * kCallers);
}

TEST(CondVar, AWaitEndsAtItsTimeAndNotBefore) {
  Counter counter;
  MutexLock lock(counter.mutex);
  const auto until = steady_clock::now() + kLongEnoughToSleep;
  while (counter.changed.wait_until(counter.mutex, until)) {
  }
  EXPECT_GE(steady_clock::now(), until);
  EXPECT_FALSE(counter.changed.wait_until(counter.mutex, steady_clock::time_point::min()));
}

TEST(CondVar, AWaitWithTimeIsWoken) {
  Counter counter;
  std::thread notifier([&] {
    std::this_thread::sleep_for(kLongEnoughToSleep);
    MutexLock lock(counter.mutex);
    counter.value = 1;
    counter.changed.notify_one();
  });
  {
    MutexLock lock(counter.mutex);
    const auto until = steady_clock::now() + std::chrono::hours(1);
    while (counter.value == 0) EXPECT_TRUE(counter.changed.wait_until(counter.mutex, until));
  }
  notifier.join();
}

TEST(SharedMutex, ReadersAreInsideTogether) {
  SharedMutex mutex;
  std::atomic<int> inside{0};
  on_threads(kCallers, [&](int) {
    ReaderLock lock(mutex);
    inside.fetch_add(1);
    while (inside.load() < kCallers) std::this_thread::yield();
  });
  EXPECT_EQ(inside.load(), kCallers);
}

TEST(SharedMutex, NobodySeesAWritersHalfDoneWork) {
  SharedMutex mutex;
  int first = 0, second = 0;
  std::atomic<int> torn{0};
  on_threads(kCallers, [&](int self) {
    for (int i = 0; i < kRounds; ++i) {
      if (self < 2 && i % 4 == 0) {
        WriterLock lock(mutex);
        ++first;
        if (i % 64 == 0) std::this_thread::yield();
        ++second;
      } else {
        ReaderLock lock(mutex);
        if (first != second) torn.fetch_add(1);
      }
    }
  });
  EXPECT_EQ(torn.load(), 0);
  EXPECT_EQ(first, 2 * kRounds / 4);
  EXPECT_EQ(second, first);
}

TEST(SharedMutex, AWriterComesInAlthoughThereIsAlwaysAReader) {
  SharedMutex mutex;
  std::atomic<bool> written{false};
  std::atomic<int> inside{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      // Each stays until the other is inside too, unless the writer keeps that one out.
      while (!written.load()) {
        ReaderLock lock(mutex);
        inside.fetch_add(1);
        const auto until = steady_clock::now() + milliseconds(5);
        while (inside.load() < 2 && !written.load() && steady_clock::now() < until) {
          std::this_thread::yield();
        }
        std::this_thread::yield();
        inside.fetch_sub(1);
      }
    });
  }
  std::this_thread::sleep_for(kLongEnoughToSleep);
  {
    WriterLock lock(mutex);
    EXPECT_EQ(inside.load(), 0);
    written.store(true);
  }
  for (std::thread& reader : readers) reader.join();
}

}  // namespace
}  // namespace te
