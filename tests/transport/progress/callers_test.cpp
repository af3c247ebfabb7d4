#include "transport/progress/callers.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "base/fd.h"

namespace te {
namespace {

constexpr int64_t kSpinNs = 100'000;
constexpr int kPollsAtOnce = 7;

int64_t now = 1;
int64_t clock() { return now; }

TEST(CallerProgress, OneAtATimeWithALeaseOnceItLeft) {
  CallerProgress callers(kSpinNs, kPollsAtOnce, clock);
  EXPECT_FALSE(callers.expected(now));
  ASSERT_TRUE(callers.begin());
  EXPECT_TRUE(callers.expected(now));
  EXPECT_FALSE(callers.leased(now));
  EXPECT_FALSE(callers.enter());
  EXPECT_FALSE(callers.end(true)) << "it is likely to be back";
  EXPECT_TRUE(callers.leased(now));
  EXPECT_TRUE(callers.expected(now + CallerProgress::kLeaseNs - 1));
  EXPECT_FALSE(callers.expected(now + CallerProgress::kLeaseNs));
  ASSERT_TRUE(callers.begin());
  EXPECT_TRUE(callers.end(false)) << "the transport's own threads have to come";
  EXPECT_FALSE(callers.expected(now));
}

TEST(CallerProgress, ThreadsThatMeetLeaveItToTheTransportForAWhile) {
  CallerProgress callers(kSpinNs, kPollsAtOnce, clock);
  ASSERT_TRUE(callers.begin());
  EXPECT_FALSE(callers.backed_off());
  EXPECT_FALSE(callers.begin());
  EXPECT_TRUE(callers.backed_off());
  EXPECT_TRUE(callers.end(true)) << "somebody was sent away";
  EXPECT_FALSE(callers.expected(now));
  EXPECT_FALSE(callers.begin());
  now += 20 * kNsPerMs;
  ASSERT_TRUE(callers.begin());
  EXPECT_FALSE(callers.backed_off());
  EXPECT_FALSE(callers.end(true));
}

TEST(CallerProgress, WorkThatIsNoCallersKeepsCallersOut) {
  CallerProgress callers(kSpinNs, kPollsAtOnce, clock);
  ASSERT_TRUE(callers.enter());
  EXPECT_FALSE(callers.begin());
  callers.leave();
  EXPECT_TRUE(callers.backed_off());
  now += 20 * kNsPerMs;
  EXPECT_TRUE(callers.begin());
  callers.back_off();
  EXPECT_TRUE(callers.backed_off());
}

TEST(CallerProgress, TheTransportsThreadLeavesTheLockToACallerButNotForLong) {
  CallerProgress callers(kSpinNs, kPollsAtOnce, clock);
  Mutex lock;
  const int64_t attended = now;
  const auto leaves = [&](int64_t at) {
    bool result = false;
    std::thread([&] { result = callers.leave_to_caller(lock, attended, at); }).join();
    return result;
  };
  {
    const MutexLock held(lock);
    EXPECT_FALSE(leaves(now)) << "no caller is here";
    ASSERT_TRUE(callers.begin());
    EXPECT_TRUE(leaves(now));
    EXPECT_TRUE(leaves(attended + CallerProgress::kLeftAloneNs - 1));
    EXPECT_FALSE(leaves(attended + CallerProgress::kLeftAloneNs))
        << "it stayed away for long enough";
  }
  EXPECT_FALSE(leaves(now)) << "the lock is free";
  EXPECT_FALSE(callers.end(true));
  const MutexLock held(lock);  // it was only looked at
  EXPECT_TRUE(leaves(now)) << "the caller is likely to be back, and somebody holds the lock";
}

// Work that takes 10 us a look.
class FakeWork final : public CallerWork {
 public:
  bool work(int polls) override {
    looks.push_back(polls);
    now += kLookNs;
    return static_cast<int>(looks.size()) == news_at;
  }
  bool pending() const override { return any; }
  bool worth_polling() const override { return soon; }
  BeforeSleep before_sleep(CallerSleep& sleep) override {
    ++sleeps;
    return prepare(sleep);
  }
  void after_sleep(const CallerSleep& sleep) override {
    for (size_t i = 0; i < sleep.count(); ++i) events.push_back(sleep.events(i));
  }

  static constexpr int64_t kLookNs = 10'000;
  int news_at = 0;  // which look finds something; 0: none does
  bool any = true, soon = true;
  std::function<BeforeSleep(CallerSleep&)> prepare = [](CallerSleep&) {
    return BeforeSleep::kLookAgain;
  };
  std::vector<int> looks;
  int sleeps = 0;
  std::vector<short> events;
};

class CallerRun : public testing::Test {
 protected:
  bool run(int64_t until_ns) {
    EXPECT_TRUE(callers.begin());
    const bool useful = callers.run(work, until_ns, waker);
    callers.leave();
    return useful;
  }
  bool run() { return run(now + 20'000 * kNsPerMs); }
  // A real sleep of the run took less than the 20 s that it had.
  template <typename Body>
  static void expect_short(Body body) {
    const int64_t begin_ns = now_ns();
    body();
    EXPECT_LT(now_ns() - begin_ns, 10'000 * kNsPerMs);
  }

  CallerProgress callers{kSpinNs, kPollsAtOnce, clock};
  Waker& waker = Waker::of_this_thread();
  FakeWork work;
};

TEST_F(CallerRun, WithoutATimeToWaitItLooksOnce) {
  EXPECT_FALSE(run(0));
  EXPECT_EQ(work.looks, std::vector<int>{kPollsAtOnce});
  work.news_at = 2;
  EXPECT_TRUE(run(0));
  EXPECT_EQ(work.sleeps, 0);
}

TEST_F(CallerRun, WhatIsHereAlreadyEndsItAtOnce) {
  work.news_at = 1;
  EXPECT_TRUE(run());
  EXPECT_EQ(work.looks, std::vector<int>{1});
}

TEST_F(CallerRun, ThereMayBeNothingToWaitFor) {
  work.any = false;
  EXPECT_FALSE(run());
  EXPECT_EQ(work.looks.size(), 1u);
  EXPECT_EQ(work.sleeps, 0);
}

TEST_F(CallerRun, PollingEndsWithACompletion) {
  work.news_at = 4;
  EXPECT_TRUE(run());
  EXPECT_EQ(work.looks, (std::vector<int>{1, kPollsPerYield, kPollsPerYield, kPollsPerYield}));
  EXPECT_EQ(work.sleeps, 0);
}

TEST_F(CallerRun, PollingEndsWithTheBudgetAndASleepFollows) {
  EXPECT_TRUE(run());
  // One before the clock is read, as many as the budget holds, one after the sleep.
  EXPECT_EQ(work.looks.size(), 1 + kSpinNs / FakeWork::kLookNs + 1);
  EXPECT_EQ(work.looks.back(), 1);
  EXPECT_EQ(work.sleeps, 1);
}

TEST_F(CallerRun, PollingEndsWithTheTime) {
  EXPECT_TRUE(run(now + 4 * FakeWork::kLookNs));
  EXPECT_EQ(work.looks.size(), 1u + 3 + 1);
}

TEST_F(CallerRun, WhatIsSlowIsNotPolledFor) {
  work.soon = false;
  EXPECT_TRUE(run());
  EXPECT_EQ(work.looks.size(), 2u);
}

TEST_F(CallerRun, ItPollsOnlyWhileCompletionsComeWithinTheBudget) {
  work.prepare = [](CallerSleep&) {
    now += 4 * kSpinNs;
    return CallerWork::BeforeSleep::kLookAgain;
  };
  while (run() && work.looks.size() > 2 && work.sleeps < 10) work.looks.clear();
  EXPECT_EQ(work.looks.size(), 2u) << "it sleeps at once by now";
  work.prepare = [](CallerSleep&) { return CallerWork::BeforeSleep::kLookAgain; };
  for (int i = 0; i < 10; ++i) run();
  work.looks.clear();
  run();
  EXPECT_GT(work.looks.size(), 2u) << "they come soon again";
}

TEST_F(CallerRun, WhereItCannotSleepItDoesNotStay) {
  work.prepare = [](CallerSleep&) { return CallerWork::BeforeSleep::kNoWay; };
  EXPECT_FALSE(run());
  const size_t looks = work.looks.size();
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(run());
  work.looks.clear();
  EXPECT_FALSE(run());
  EXPECT_LT(work.looks.size(), looks) << "nothing came, so polling does not pay";
}

TEST_F(CallerRun, DescriptorsEndTheSleep) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const Fd read_end(ends[0]), write_end(ends[1]);
  work.prepare = [&](CallerSleep& sleep) {
    sleep.listen(-1, POLLIN);
    sleep.listen(read_end.get(), POLLIN);
    sleep.listen(write_end.get(), POLLOUT);
    return CallerWork::BeforeSleep::kSleep;
  };
  expect_short([&] { EXPECT_TRUE(run()); });
  EXPECT_EQ(work.events, (std::vector<short>{0, 0, POLLOUT}));
}

TEST_F(CallerRun, TheWakerEndsTheSleepAndIsCleared) {
  work.prepare = [](CallerSleep&) { return CallerWork::BeforeSleep::kSleep; };
  waker.wake();
  expect_short([&] { EXPECT_TRUE(run()); });
  pollfd entry{waker.descriptor(), POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, 0), 0);
}

TEST_F(CallerRun, AWakeThatComesJustBeforeTheSleepIsNotLost) {
  callers.wake();  // nobody sleeps
  pollfd entry{waker.descriptor(), POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, 0), 0);
  work.prepare = [this](CallerSleep&) {
    std::thread([this] { callers.wake(); }).join();
    return CallerWork::BeforeSleep::kSleep;
  };
  expect_short([&] { EXPECT_TRUE(run()); });
  callers.wake();
  EXPECT_EQ(::poll(&entry, 1, 0), 0) << "it sleeps no more";
}

TEST_F(CallerRun, ASleeperIsWokenByOtherThreads) {
  work.prepare = [](CallerSleep&) { return CallerWork::BeforeSleep::kSleep; };
  std::atomic<bool> over{false};
  std::thread other([&] {
    while (!over.load()) {
      callers.wake();
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  });
  expect_short([&] {
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(run());
  });
  over = true;
  other.join();
  waker.clear();
}

TEST_F(CallerRun, TheWorkLimitsTheSleep) {
  work.prepare = [](CallerSleep& sleep) {
    sleep.at_most(1000);
    sleep.at_most(kNsPerMs);
    return CallerWork::BeforeSleep::kSleep;
  };
  expect_short([&] { EXPECT_TRUE(run()); });
  expect_short([&] { EXPECT_TRUE(run(now)) << "the time is over"; });
}

}  // namespace
}  // namespace te
