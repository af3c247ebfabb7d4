#include "base/fork.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "base/environment.h"
#include "base/fd.h"
#include "base/guarded_copy.h"
#include "base/log.h"
#include "base/waker.h"
#include "directory/curl_library.h"
#include "platform/hwloc_library.h"
#include "support/child.h"
#include "support/facts.h"

namespace te {
namespace {

using test::run_in_child;

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(Fork, AChildHasNoneOfTheLibrarysDescriptors) {
  watch_forks();
  const uint32_t generation = fork_generation();
  Fd ours(::eventfd(0, EFD_CLOEXEC));
  const int other = ::eventfd(0, EFD_CLOEXEC);
  const int noted = ::eventfd(0, EFD_CLOEXEC);
  {
    const NotedDescriptor note(noted);
    const test::ChildEnd end = run_in_child([&] {
      EXPECT_NE(fork_generation(), generation);
      EXPECT_FALSE(is_open(ours.get()));
      EXPECT_FALSE(is_open(noted));
      EXPECT_TRUE(is_open(other));
      // The number is somebody else's now, and an Fd of before does not close it.
      const int number = ours.get();
      EXPECT_EQ(::dup2(other, number), number);
      ours.reset();
      EXPECT_TRUE(is_open(number));
      Fd fresh(::eventfd(0, EFD_CLOEXEC));
      const int fresh_number = fresh.get();
      fresh.reset();
      EXPECT_FALSE(is_open(fresh_number));
      return 0;
    });
    EXPECT_TRUE(end.ok()) << end.describe();
  }
  EXPECT_EQ(fork_generation(), generation);
  EXPECT_TRUE(is_open(ours.get()));
  const test::ChildEnd end = run_in_child([&] { return is_open(noted) ? 0 : 1; });
  EXPECT_TRUE(end.ok()) << "it is noted no more";
  ::close(other);
  ::close(noted);
}

// Its parent's thread may have been writing a line.
TEST(Fork, LocksAreFreeInAChildOfManyThreads) {
  watch_forks();
  set_log_hook([](LogLevel, std::string_view) {});
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&stop] {
      while (!stop.load()) {
        log_error("a line");
        Fd fd(::eventfd(0, EFD_CLOEXEC));
      }
    });
  }
  for (int i = 0; i < 50; ++i) {
    const test::ChildEnd end = run_in_child(
        [] {
          log_error("a line of the child");
          const NoFork no_fork;
          return 0;
        },
        20'000);
    EXPECT_TRUE(end.ok()) << end.describe();
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  set_log_hook(nullptr);
}

// Forks while `work` runs again and again in another thread; it is possible in the children, too.
void expect_free_in_children(const std::function<void()>& work) {
  watch_forks();
  std::atomic<bool> stop{false};
  std::thread thread([&] {
    while (!stop) work();
  });
  for (int i = 0; i < 50; ++i) {
    const test::ChildEnd end = run_in_child(
        [&work] {
          work();
          return 0;
        },
        20'000);
    EXPECT_TRUE(end.ok()) << end.describe();
    if (!end.ok()) break;
  }
  stop = true;
  thread.join();
}

TEST(Fork, AThreadMayLogWhileItHoldsALock) {
  set_log_hook([](LogLevel, std::string_view) {});
  static auto& mutex = *new Mutex;
  hold_during_forks(mutex);
  expect_free_in_children([] {
    MutexLock lock(mutex);
    log_error("a line");
  });
  set_log_hook(nullptr);
}

TEST(Fork, WarningsAreGivenInAChild) {
  set_log_hook([](LogLevel, std::string_view) {});
  expect_free_in_children([] { warn_once("a warning"); });
  set_log_hook(nullptr);
}

// Each in a process that did not do it yet, where a thread does it for the first time.
TEST(Fork, AFirstUseDuringAForkIsPossibleInTheChild) {
  static void (*const works[])() = {
      [] { warn_once("a warning"); }, [] { set_missing_variables({}); },
      [] { (void)curl_library("/nowhere"); }, [] { (void)hwloc_library("/nowhere"); }};
  for (void (*work)() : works) {
    for (int i = 0; i < 20; ++i) {
      const test::ChildEnd process = run_in_child([work] {
        watch_forks();
        set_log_hook([](LogLevel, std::string_view) {});
        std::atomic<bool> begun{false}, over{false};
        std::thread thread([&] {
          begun = true;
          work();
          // ThreadSanitizer reports a thread that ended before the fork, which nobody joins there.
          over.wait(false);
        });
        while (!begun) {
        }
        const test::ChildEnd child = run_in_child(
            [work] {
              work();
              return 0;
            },
            10'000);
        over = true;
        over.notify_one();
        thread.join();
        EXPECT_TRUE(child.ok()) << child.describe();
        return 0;
      });
      ASSERT_TRUE(process.ok()) << process.describe();
    }
  }
}

TEST(Fork, FaultsAreHandledInAChild) {
  expect_free_in_children([] { const FaultHandler handler; });
}

TEST(Fork, AThreadsWakerIsItsOwnInTheChild) {
  watch_forks();
  Waker& waker = Waker::of_this_thread();
  waker.clear();
  const test::ChildEnd end = run_in_child([] {
    Waker::of_this_thread().wake();
    uint64_t count = 0;
    EXPECT_EQ(::read(Waker::of_this_thread().descriptor(), &count, sizeof count), 8);
    Waker::of_this_thread().wake();
    return 0;
  });
  EXPECT_TRUE(end.ok()) << end.describe();
  uint64_t count = 0;
  EXPECT_LT(::read(waker.descriptor(), &count, sizeof count), 0) << "the child woke its parent";
}

TEST(Fork, SocketsOfANotedAddressAreClosedInAChild) {
  watch_forks();
  // As a library opens them, without a word.
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof address;
  ASSERT_EQ(::bind(listener, plain, length), 0);
  ASSERT_EQ(::listen(listener, 1), 0);
  ASSERT_EQ(::getsockname(listener, plain, &length), 0);
  const int connected = ::socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(::connect(connected, plain, length), 0);
  const int accepted = ::accept(listener, nullptr, nullptr);
  const int other = ::socket(AF_INET, SOCK_STREAM, 0);
  const auto open_in_child = [&] {
    return run_in_child([&] {
      return (is_open(listener) ? 1 : 0) + (is_open(connected) ? 2 : 0) +
             (is_open(accepted) ? 4 : 0) + (is_open(other) ? 8 : 0);
    });
  };
  {
    const NotedAddress noted(std::string_view(reinterpret_cast<const char*>(plain), length));
    EXPECT_EQ(open_in_child().status, 8 << 8);
  }
  EXPECT_EQ(open_in_child().status, 15 << 8);
  for (const int fd : {listener, connected, accepted, other}) ::close(fd);
}

}  // namespace
}  // namespace te
