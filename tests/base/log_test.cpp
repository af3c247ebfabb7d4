#include "base/log.h"

#include <gtest/gtest.h>

#include <string>
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

TEST(Clock, DeadlinesDoNotWrap) {
  EXPECT_EQ(deadline_after_ms(1'000, 2), 1'000 + 2 * kNsPerMs);
  EXPECT_EQ(deadline_after_ms(0, 0), 0);
  EXPECT_EQ(deadline_after_ms(1'000, INT64_MAX), kNever);
  EXPECT_EQ(deadline_after_ms(kNever - 10, 1), kNever);
  EXPECT_EQ(deadline_after_ms(kNever - 3 * kNsPerMs, 2), kNever - kNsPerMs);
}

}  // namespace
}  // namespace te
