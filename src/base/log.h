// Where the library speaks: one hook for the process, stderr without one. Quiet by default
// (warnings).
//
// Threads: any. The function that decides that something is an error logs it; callers pass it on.
#pragma once

#include <fmt/core.h>

#include <atomic>
#include <string_view>
#include <utility>

#include "transfer_engine/engine.h"

namespace te {

namespace log_internal {
extern std::atomic<int> level;
void write(LogLevel level, std::string_view message);
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

// A Status whose message is formatted.
template <typename... Args>
TE_COLD Status error(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return Status(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace te
