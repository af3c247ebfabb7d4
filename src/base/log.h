// Where the library speaks: one hook for the process, stderr without one. Quiet by default
// (warnings).
//
// Threads: any. The function that decides that something is an error logs it; callers pass it on.
// A line that a peer can cause goes through a LogLimit, so that no peer can fill the log.
#pragma once

#include <fmt/core.h>

#include <atomic>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "transfer_engine/engine.h"

namespace te {

namespace log_internal {
extern std::atomic<int> level;
void write(LogLevel level, std::string_view message);
void write_after(uint64_t left_out, LogLevel level, std::string_view message);
}  // namespace log_internal

inline bool log_enabled(LogLevel level) {
  return static_cast<int>(level) <= log_internal::level.load(std::memory_order_relaxed);
}

template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(level))
    log_internal::write(level, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
TE_COLD void log_error(fmt::format_string<Args...> f, Args&&... args) {
  log(LogLevel::kError, f, std::forward<Args>(args)...);
}
template <typename... Args>
TE_COLD void log_warning(fmt::format_string<Args...> f, Args&&... args) {
  log(LogLevel::kWarning, f, std::forward<Args>(args)...);
}
template <typename... Args>
TE_COLD void log_info(fmt::format_string<Args...> f, Args&&... args) {
  log(LogLevel::kInfo, f, std::forward<Args>(args)...);
}
template <typename... Args>
TE_COLD void log_debug(fmt::format_string<Args...> f, Args&&... args) {
  log(LogLevel::kDebug, f, std::forward<Args>(args)...);
}

// Lines of one kind: at most one per interval is written, with the number of those left out before
// it. One for each place that logs, most simply a static variable there. Threads: any.
class LogLimit {
 public:
  static constexpr int64_t kIntervalNs = 10'000 * kNsPerMs;

  constexpr explicit LogLimit(int64_t interval_ns = kIntervalNs) : interval_ns_(interval_ns) {}
  // Whether a line may be written now; if so, how many were not since the last one that was.
  bool admit(int64_t now_ns, uint64_t* left_out);

 private:
  const int64_t interval_ns_;
  std::atomic<int64_t> next_ns_{INT64_MIN};
  std::atomic<uint64_t> left_out_{0};
};

template <typename... Args>
TE_COLD void log_limited(LogLimit& limit, LogLevel level, fmt::format_string<Args...> format,
                         Args&&... args) {
  uint64_t left_out = 0;
  if (!log_enabled(level) || !limit.admit(now_ns(), &left_out)) return;
  log_internal::write_after(left_out, level, fmt::format(format, std::forward<Args>(args)...));
}

// A warning that the process gives once: the same text is not written again. For what the
// application or its environment says, never for what peers say.
TE_COLD void warn_once(const std::string& message);

// A Status whose message is formatted.
template <typename... Args>
TE_COLD Status error(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return Status(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace te
