// Time as the engine counts it: nanoseconds of the monotonic clock.
#pragma once

#include <time.h>

#include <chrono>
#include <cstdint>

namespace te {

using Clock = std::chrono::steady_clock;

inline constexpr int64_t kNsPerMs = 1'000'000;
inline constexpr int64_t kNever = INT64_MAX;

inline int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch())
      .count();
}

// The same clock at the kernel's last tick, at a fourth of the cost: some milliseconds behind, and
// more where ticks come late.
inline int64_t now_at_tick_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

// `from` + `ms`, without wrapping: very long times mean never.
inline int64_t deadline_after_ms(int64_t from_ns, int64_t ms) {
  if (ms >= (kNever - from_ns) / kNsPerMs) return kNever;
  return from_ns + ms * kNsPerMs;
}

inline Clock::time_point to_time_point(int64_t ns) {
  return Clock::time_point(
      std::chrono::duration_cast<Clock::duration>(std::chrono::nanoseconds(ns)));
}

}  // namespace te
