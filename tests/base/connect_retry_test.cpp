#include "base/connect_retry.h"

#include <gtest/gtest.h>

#include <set>

#include "base/clock.h"

namespace te {
namespace {

constexpr int64_t kSecond = 1'000 * kNsPerMs;

TEST(ConnectRetry, WithoutRoomItGoesOnUntilTheDeadline) {
  for (const Code code : {Code::kBusy, Code::kResource}) {
    ConnectRetry retry(10 * kSecond);
    int64_t now = 0, attempts = 0;
    for (int64_t delay_ms = 0; (delay_ms = retry.next_ms(code, true, now)) >= 0; ++attempts) {
      EXPECT_GE(delay_ms, 10);
      EXPECT_LE(delay_ms, 320);
      now += delay_ms * kNsPerMs;
      ASSERT_LT(now, 10 * kSecond);
    }
    EXPECT_GT(now, 9 * kSecond);
    EXPECT_GT(attempts, 20);
  }
}

TEST(ConnectRetry, ALostConnectionIsWorthAFewAttempts) {
  ConnectRetry retry(kNever);
  int attempts = 0;
  while (retry.next_ms(Code::kUnavailable, true, 0) >= 0) ++attempts;
  EXPECT_EQ(attempts, 5);
}

TEST(ConnectRetry, NobodyThereOrARefusalIsFinal) {
  ConnectRetry retry(kNever);
  EXPECT_LT(retry.next_ms(Code::kUnavailable, false, 0), 0);
  for (const Code code : {Code::kStale, Code::kUnsupported, Code::kProtocol, Code::kTimeout}) {
    EXPECT_LT(retry.next_ms(code, true, 0), 0) << code_name(code);
  }
}

TEST(ConnectRetry, TimesAreRandomAndGrow) {
  std::set<int64_t> late;
  for (int i = 0; i < 50; ++i) {
    ConnectRetry retry(kNever);
    EXPECT_LE(retry.next_ms(Code::kBusy, true, 0), 20);
    for (int k = 0; k < 5; ++k) retry.next_ms(Code::kBusy, true, 0);
    const int64_t delay_ms = retry.next_ms(Code::kBusy, true, 0);
    EXPECT_GE(delay_ms, 160);
    late.insert(delay_ms);
  }
  EXPECT_GT(late.size(), 10u);
}

}  // namespace
}  // namespace te
