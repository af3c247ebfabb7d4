#include "base/log.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"

namespace te {
namespace {

// Puts the process's log back as it was.
class Log : public testing::Test {
 protected:
  void SetUp() override {
    set_log_hook([this](LogLevel level, std::string_view message) {
      lines_.push_back(std::to_string(static_cast<int>(level)) + " " + std::string(message));
    });
  }
  void TearDown() override {
    set_log_hook(nullptr);
    set_log_level(LogLevel::kWarning);
  }
  std::vector<std::string> lines_;
};

TEST_F(Log, DropsWhatIsAboveTheLevel) {
  log_error("e{}", 1);
  log_warning("w{}", 2);
  log_info("i");
  log_debug("d");
  EXPECT_EQ(lines_, (std::vector<std::string>{"0 e1", "1 w2"}));
  EXPECT_FALSE(log_enabled(LogLevel::kInfo));
}

TEST_F(Log, LevelsNest) {
  set_log_level(LogLevel::kDebug);
  log_debug("d");
  set_log_level(LogLevel::kError);
  log_warning("w");
  log_error("e");
  EXPECT_EQ(lines_, (std::vector<std::string>{"3 d", "0 e"}));
}

TEST_F(Log, WithoutAHookItGoesToStderr) {
  set_log_hook(nullptr);
  testing::internal::CaptureStderr();
  log_warning("port {} is odd", 7);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "transfer_engine warning: port 7 is odd\n");
  EXPECT_TRUE(lines_.empty());
}

TEST_F(Log, ALimitLeavesLinesOutAndCountsThem) {
  LogLimit limit(100);
  uint64_t left_out = 7;
  EXPECT_TRUE(limit.admit(1'000, &left_out));
  EXPECT_EQ(left_out, 0u);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(limit.admit(1'000 + i, &left_out));
  EXPECT_TRUE(limit.admit(1'100, &left_out));
  EXPECT_EQ(left_out, 100u);
  EXPECT_TRUE(limit.admit(5'000, &left_out));
  EXPECT_EQ(left_out, 0u);
}

TEST_F(Log, ALimitedLineSaysHowManyWereLeftOut) {
  LogLimit once(INT64_MAX / 2);
  for (int i = 0; i < 1'000'000; ++i) log_limited(once, LogLevel::kWarning, "peer {}", i);
  EXPECT_EQ(lines_, (std::vector<std::string>{"1 peer 0"}));

  LogLimit soon(1);
  uint64_t ignored = 0;
  EXPECT_TRUE(soon.admit(now_ns() + kNsPerMs, &ignored));
  log_limited(soon, LogLevel::kWarning, "too early");
  std::this_thread::sleep_for(std::chrono::milliseconds(3));
  log_limited(soon, LogLevel::kInfo, "below the level, so not counted");
  log_limited(soon, LogLevel::kError, "peer {}", 5);
  EXPECT_EQ(lines_.back(), "0 peer 5 (1 more like this were left out)");
  EXPECT_EQ(lines_.size(), 2u);
}

TEST_F(Log, EachLimitIsOfItsOwn) {
  LogLimit one, other;
  log_limited(one, LogLevel::kWarning, "one");
  log_limited(other, LogLevel::kWarning, "other");
  EXPECT_EQ(lines_.size(), 2u);
}

TEST_F(Log, ManyThreadsShareALimit) {
  LogLimit limit(INT64_MAX / 2);
  std::atomic<int> admitted{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      uint64_t left_out = 0;
      for (int i = 0; i < 1'000; ++i) admitted += limit.admit(1, &left_out) ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(admitted.load(), 1);
}

TEST_F(Log, AWarningIsGivenOnce) {
  for (int i = 0; i < 3; ++i) warn_once("the variable X of this test");
  EXPECT_EQ(lines_, (std::vector<std::string>{"1 the variable X of this test"}));
}

TEST(Clock, DeadlinesDoNotWrap) {
  EXPECT_EQ(deadline_after_ms(1'000, 2), 1'000 + 2 * kNsPerMs);
  EXPECT_EQ(deadline_after_ms(0, 0), 0);
  EXPECT_EQ(deadline_after_ms(1'000, INT64_MAX), kNever);
  EXPECT_EQ(deadline_after_ms(kNever - 10, 1), kNever);
  EXPECT_EQ(deadline_after_ms(kNever - 3 * kNsPerMs, 2), kNever - kNsPerMs);
}

}  // namespace
}  // namespace te
