#include "transport/progress/progress.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <functional>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "transport/fakes.h"

namespace te {
namespace {

// A NIC with room for so many slices, which completes them when it is told to.
class FakeDriver final : public ProgressDriver {
 public:
  void submitted(SliceList slices) override {
    ++submissions;
    waiting.append(slices);
    post();
  }
  bool poll() override {
    ++polls;
    const bool any = completes && !posted.empty();
    while (any && !posted.empty()) {
      progress->complete(posted.pop(), Code::kOk);
      progress->outstanding.fetch_sub(1);
    }
    return any;
  }
  void advance() override { post(); }
  int64_t watch(int64_t now) override { return now + 1'000; }
  bool needs_thread() const override { return wants_thread; }
  Arming arm(bool for_caller) override {
    if (for_caller) return arm_for_caller();
    ++armed;
    return {.descriptor = 7};
  }

  void post() {
    while (!waiting.empty() && progress->outstanding.load() < room) {
      posted.push(waiting.pop());
      progress->outstanding.fetch_add(1);
    }
  }

  Progress* progress = nullptr;
  SliceList waiting, posted;
  uint64_t room = 2;
  bool completes = false;
  bool wants_thread = false;
  std::function<Arming()> arm_for_caller = [] { return Arming{}; };
  int submissions = 0, polls = 0, armed = 0;
};

class ProgressTest : public testing::Test {
 protected:
  ProgressTest() : progress(host, driver, 0, [this] { ++calls; }) { driver.progress = &progress; }

  SliceList list(size_t first, size_t count) {
    SliceList result;
    for (size_t i = first; i < first + count; ++i) result.push(&slices[i]);
    return result;
  }
  Look look(bool before_sleep = false) {
    Look result;
    progress.look(before_sleep, result);
    return result;
  }
  // By a caller with 20 s to wait, which come to an end sooner.
  bool wait_by_caller() {
    const int64_t begin_ns = now_ns();
    const bool useful =
        progress.run_by_caller(begin_ns + 20'000 * kNsPerMs, Waker::of_this_thread());
    EXPECT_LT(now_ns() - begin_ns, 10'000 * kNsPerMs);
    return useful;
  }
  static size_t length(const SliceList& list) {
    size_t count = 0;
    for (const Slice* each = list.first; each != nullptr; each = each->next) ++count;
    return count;
  }

  test::RecordingHost host;
  FakeDriver driver;
  int calls = 0;
  Progress progress;
  std::vector<Slice> slices = std::vector<Slice>(8);
};

TEST_F(ProgressTest, ASubmissionIsPostedAtOnceAndReturnedByTheThreadAlone) {
  driver.completes = true;
  progress.submit(list(0, 2));
  EXPECT_EQ(length(driver.posted), 2u);
  EXPECT_EQ(host.count(), 0u) << "never from inside submit()";
  EXPECT_TRUE(look().news);
  EXPECT_EQ(host.count(), 2u);
  EXPECT_EQ(host.code_of(&slices[1]), Code::kOk);
  EXPECT_EQ(calls, 0);
}

TEST_F(ProgressTest, WhatFindsTheLockHeldIsTakenByItsHolder) {
  progress.lock.lock();
  std::thread([this] { progress.submit(list(0, 1)); }).join();
  EXPECT_EQ(driver.submissions, 0) << "it waited for no lock";
  progress.lock.unlock();
  (void)look();
  EXPECT_EQ(driver.submissions, 1);
  EXPECT_EQ(length(driver.posted), 1u);
}

TEST_F(ProgressTest, OrderIsKeptThroughTheQueue) {
  driver.room = 8;
  progress.lock.lock();
  std::thread([this] {
    progress.submit(list(0, 2));
    progress.submit(list(2, 2));
  }).join();
  progress.lock.unlock();
  progress.submit(list(4, 1));  // behind those in the queue
  (void)look();
  std::vector<const Slice*> posted;
  for (const Slice* each = driver.posted.first; each != nullptr; each = each->next) {
    posted.push_back(each);
  }
  EXPECT_EQ(posted, (std::vector<const Slice*>{&slices[0], &slices[1], &slices[2], &slices[3],
                                               &slices[4]}));
}

TEST_F(ProgressTest, ACallerReturnsWhatCompletes) {
  progress.submit(list(0, 2));
  EXPECT_FALSE(progress.run_by_caller(0, Waker::of_this_thread())) << "nothing completed";
  driver.completes = true;
  EXPECT_TRUE(progress.run_by_caller(0, Waker::of_this_thread()));
  EXPECT_EQ(host.count(), 2u);
}

TEST_F(ProgressTest, ACallerThatCannotSleepLeavesTheWorkToTheThread) {
  progress.submit(list(0, 1));
  EXPECT_FALSE(wait_by_caller());
  EXPECT_EQ(calls, 1);
  EXPECT_FALSE(progress.expects_caller(now_ns()));
}

TEST_F(ProgressTest, ACallerSleepsOnTheDescriptorThatWasArmedForIt) {
  const Fd event(::eventfd(0, EFD_CLOEXEC));
  ASSERT_TRUE(event.valid());
  driver.arm_for_caller = [&] {
    driver.completes = true;
    const uint64_t one = 1;
    EXPECT_EQ(::write(event.get(), &one, sizeof one), ssize_t{sizeof one});
    return Arming{.descriptor = event.get()};
  };
  progress.submit(list(0, 2));
  EXPECT_TRUE(wait_by_caller());
  EXPECT_EQ(host.count(), 2u);
  EXPECT_EQ(calls, 0) << "the caller is likely to be back";
  EXPECT_TRUE(progress.expects_caller(now_ns()));
}

TEST_F(ProgressTest, ACallerWithoutADescriptorSleepsForAMoment) {
  driver.arm_for_caller = [&] {
    driver.completes = true;
    return Arming{.nap_ns = 1'000};
  };
  progress.submit(list(0, 1));
  EXPECT_TRUE(wait_by_caller());
  EXPECT_EQ(host.count(), 1u);
}

TEST_F(ProgressTest, ACallerTakesWhatCompletedWhileItArmed) {
  driver.arm_for_caller = [&] {
    driver.completes = true;
    return Arming{.news = true};
  };
  progress.submit(list(0, 1));
  EXPECT_TRUE(wait_by_caller());
  EXPECT_EQ(host.count(), 1u);
}

TEST_F(ProgressTest, ACallerThatSleepsIsWokenWhenItsDescriptorIsGone) {
  const Fd event(::eventfd(0, EFD_CLOEXEC));
  ASSERT_TRUE(event.valid());
  driver.arm_for_caller = [&] {
    std::thread([this] { progress.wake_caller(); }).join();
    return Arming{.descriptor = event.get()};
  };
  progress.submit(list(0, 1));
  EXPECT_TRUE(wait_by_caller());
}

TEST_F(ProgressTest, TheThreadLeavesCompletionsToACallerThatIsExpected) {
  driver.completes = true;
  progress.submit(list(0, 1));
  EXPECT_TRUE(progress.run_by_caller(0, Waker::of_this_thread()));
  progress.submit(list(1, 1));
  const int polls = driver.polls;
  const Look seen = look(true);
  EXPECT_TRUE(seen.left_to_caller);
  EXPECT_EQ(driver.polls, polls);
  EXPECT_EQ(driver.armed, 0);
  EXPECT_LT(seen.next_ns, kNever) << "it looks again when the lease ends";
}

TEST_F(ProgressTest, BeforeASleepADescriptorIsArmed) {
  progress.submit(list(0, 1));
  const Look seen = look(true);
  ASSERT_EQ(seen.descriptors.size(), 1u);
  EXPECT_EQ(seen.descriptors[0].fd, 7);
  EXPECT_FALSE(seen.news);
  EXPECT_TRUE(look(false).descriptors.empty());
}

TEST_F(ProgressTest, TheThreadIsCalledForWhatNoCompletionTells) {
  driver.wants_thread = true;
  progress.submit(list(0, 1));
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(progress.wanted());
  (void)look();
  EXPECT_FALSE(progress.wanted());
}

TEST_F(ProgressTest, CommandsRunOnTheThreadWithTheLock) {
  bool locked = false;
  EXPECT_TRUE(
      progress.command([&] { std::thread([&] { locked = !progress.lock.try_lock(); }).join(); }));
  EXPECT_EQ(calls, 1);
  progress.submit(list(0, 1));
  EXPECT_FALSE(locked) << "not by who submits";
  (void)look();
  EXPECT_TRUE(locked);
}

TEST_F(ProgressTest, AfterCloseSlicesComeBackAndCommandsAreDropped) {
  EXPECT_TRUE(progress.command([] { ADD_FAILURE() << "it was dropped"; }));
  progress.close();
  EXPECT_FALSE(progress.command([] { ADD_FAILURE() << "it came too late"; }));
  (void)look();
  progress.submit(list(0, 1));
  EXPECT_EQ(host.code_of(&slices[0]), Code::kCancelled);
  progress.lock.lock();
  std::thread([this] { progress.submit(list(1, 1)); }).join();
  progress.lock.unlock();
  EXPECT_EQ(host.code_of(&slices[1]), Code::kCancelled);
  EXPECT_EQ(driver.submissions, 0);
}

class CountingBacklog final : public Backlog {
 public:
  void advance() override { ++advanced; }
  int advanced = 0;
};

TEST_F(ProgressTest, ABacklogIsAdvancedOnceWithoutTheLock) {
  const auto backlog = std::make_shared<CountingBacklog>();
  EXPECT_TRUE(progress.command([&] {
    progress.advance_later(backlog);
    progress.advance_later(backlog);
    EXPECT_EQ(backlog->advanced, 0);
  }));
  (void)look();
  EXPECT_EQ(backlog->advanced, 1);
}

}  // namespace
}  // namespace te
