#include "base/thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <new>
#include <semaphore>

#include "base/event_loop.h"
#include "base/task_pool.h"
#include "support/child.h"
#include "support/forbid.h"

namespace te {
namespace {

using test::ChildEnd;
using test::forbid_threads;
using test::run_in_child;

TEST(Thread, RunsUnderItsName) {
  std::string name;
  Result<Thread> thread = Thread::start("a-name-that-is-too-long", [&name] {
    char text[16];
    ::pthread_getname_np(::pthread_self(), text, sizeof text);
    name = text;
  });
  ASSERT_TRUE(thread.ok());
  thread->join();
  EXPECT_EQ(name, "a-name-that-is-");
  EXPECT_FALSE(thread->joinable());
  thread->join();
}

TEST(Thread, LeavesSignalsToTheApplication) {
  sigset_t before, mask, after;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
  Result<Thread> thread =
      Thread::start("te-test", [&mask] { ::pthread_sigmask(SIG_SETMASK, nullptr, &mask); });
  ASSERT_TRUE(thread.ok());
  thread->join();
  ::pthread_sigmask(SIG_SETMASK, nullptr, &after);
  EXPECT_EQ(::sigismember(&mask, SIGTERM), 1);
  EXPECT_EQ(::sigismember(&mask, SIGUSR1), 1);
  // A copy into memory that is gone must reach its handler.
  EXPECT_EQ(::sigismember(&mask, SIGSEGV), 0);
  EXPECT_EQ(::sigismember(&mask, SIGBUS), 0);
  for (const int number : {SIGTERM, SIGUSR1, SIGSEGV}) {
    EXPECT_EQ(::sigismember(&before, number), ::sigismember(&after, number));
  }
}

TEST(Thread, WorkThatThrowsIsDoneAgain) {
  std::atomic<int> begun{0};
  Result<Thread> thread = Thread::start("te-test", [&begun] {
    if (++begun < 3) throw std::bad_alloc();
  });
  ASSERT_TRUE(thread.ok());
  thread->join();
  EXPECT_EQ(begun, 3);
}

TEST(Thread, TasksAndHandlersThatThrowStopNeitherPoolNorLoop) {
  std::binary_semaphore ran{0};
  TaskPool pool(1);
  EXPECT_TRUE(pool.run([] { throw std::bad_alloc(); }));
  EXPECT_TRUE(pool.run([&ran] { ran.release(); }));
  ran.acquire();
  Result<std::unique_ptr<EventLoop>> loop = EventLoop::create("te-test");
  ASSERT_TRUE(loop.ok());
  ASSERT_TRUE((*loop)->start().ok());
  EXPECT_TRUE((*loop)->run([] { throw std::bad_alloc(); }));
  EXPECT_TRUE((*loop)->run([&ran] { ran.release(); }));
  ran.acquire();
}

TEST(Thread, WhereNoneMayBeStartedThatIsAnError) {
  const ChildEnd end = run_in_child([] {
    if (!forbid_threads()) return ChildEnd::kNotPossible;
    const Status status = Thread::start("te-test", [] {}).status();
    EXPECT_EQ(status.code(), Code::kResource);
    EXPECT_NE(status.message().find("te-test"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("ulimit -u"), std::string::npos) << status.message();
    TaskPool pool(2);
    EXPECT_EQ(pool.start().code(), Code::kResource);
    EXPECT_FALSE(pool.run([] {}));
    Result<std::unique_ptr<EventLoop>> loop = EventLoop::create("te-test");
    if (loop.ok()) {
      EXPECT_EQ((*loop)->start().code(), Code::kResource);
    }
    return 0;
  });
  if (end.not_possible()) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_TRUE(end.ok()) << end.describe();
}

TEST(Thread, APoolThatGetsNoFurtherThreadWorksWithThoseItHas) {
  const ChildEnd end = run_in_child([] {
    TaskPool pool(4);
    EXPECT_TRUE(pool.start().ok());
    if (!forbid_threads()) return ChildEnd::kNotPossible;
    std::atomic<int> ran{0};
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(pool.run([&ran] { ++ran; }));
    pool.stop();
    EXPECT_EQ(ran, 100);
    return 0;
  });
  if (end.not_possible()) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_TRUE(end.ok()) << end.describe();
}

}  // namespace
}  // namespace te
