// How late a task is, and what of that is not the library's fault.
#include "soak/stalls.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace te::soak {
namespace {

constexpr int64_t kMs = 1'000'000;

TEST(Lateness, IsTheTimePastTheDeadline) {
  const StallLog quiet;
  EXPECT_EQ(lateness_ns(quiet, 100 * kMs, 170 * kMs), 70 * kMs);
  EXPECT_EQ(lateness_ns(quiet, 100 * kMs, 80 * kMs), -20 * kMs);
}

TEST(Lateness, LeavesOutStallsAfterTheDeadline) {
  StallLog stalls;
  stalls.add(50 * kMs, 130 * kMs);   // 30 ms of it past the deadline
  stalls.add(140 * kMs, 150 * kMs);  // 10 ms
  stalls.add(165 * kMs, 400 * kMs);  // 5 ms before the end
  EXPECT_EQ(lateness_ns(stalls, 100 * kMs, 170 * kMs), 25 * kMs);
}

TEST(Lateness, IsNotExcusedByStallsBeforeTheDeadline) {
  StallLog stalls;
  stalls.add(0, 100 * kMs);
  EXPECT_EQ(lateness_ns(stalls, 100 * kMs, 170 * kMs), 70 * kMs);
}

TEST(Lateness, KeepsWhatIsRecent) {
  StallLog stalls;
  stalls.add(0, 10 * kMs);
  stalls.add(StallLog::kKeptNs + 20 * kMs, StallLog::kKeptNs + 30 * kMs);
  EXPECT_EQ(stalls.within(0, 10 * kMs), 0) << "older entries are dropped";
  EXPECT_EQ(stalls.within(0, StallLog::kKeptNs + 30 * kMs), 10 * kMs);
}

TEST(Heartbeat, SeesThatTheProcessWasStopped) {
  const pid_t child = ::fork();
  if (child == 0) {
    StallLog stalls;
    const Heartbeat heartbeat(stalls);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const int64_t begin = monotonic_ns();
    ::raise(SIGSTOP);
    heartbeat.catch_up();
    const int64_t end = monotonic_ns();
    // What remains is what the process ran, or waited to be run, after it went on.
    ::_exit(stalls.within(begin, end) > 250 * kMs ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ::kill(child, SIGCONT);
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace te::soak
