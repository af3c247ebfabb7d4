#include "base/log.h"

#include <cstdio>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "base/fork.h"
#include "base/mutex.h"

namespace te {
namespace {

constexpr std::string_view kNames[] = {"error", "warning", "info", "debug"};

struct Hook {
  Mutex mutex{LockRank::kLog};
  std::shared_ptr<const std::function<void(LogLevel, std::string_view)>> function
      TE_GUARDED_BY(mutex);
};

// Never destroyed: threads may speak while the process ends.
Hook& hook() {
  static Hook* instance = new Hook;
  return *instance;
}

struct Given {
  Mutex mutex{LockRank::kLog};
  std::set<std::string> texts TE_GUARDED_BY(mutex);
};

// Never destroyed, as the hook.
Given& given() {
  static Given* instance = new Given;
  return *instance;
}

[[maybe_unused]] const bool sinks_held =
    (hold_last_during_forks(hook().mutex), hold_during_forks(given().mutex), true);

}  // namespace

namespace log_internal {

std::atomic<int> level{static_cast<int>(LogLevel::kWarning)};

void write(LogLevel at, std::string_view message) {
  std::shared_ptr<const std::function<void(LogLevel, std::string_view)>> function;
  {
    MutexLock lock(hook().mutex);
    function = hook().function;
  }
  if (function) {
    (*function)(at, message);
    return;
  }
  const std::string_view name = kNames[static_cast<int>(at)];
  std::fprintf(stderr, "transfer_engine %.*s: %.*s\n", static_cast<int>(name.size()), name.data(),
               static_cast<int>(message.size()), message.data());
}

void write_after(uint64_t left_out, LogLevel at, std::string_view message) {
  if (left_out == 0) return write(at, message);
  write(at, fmt::format("{} ({} more like this were left out)", message, left_out));
}

}  // namespace log_internal

bool LogLimit::admit(int64_t now_ns, uint64_t* left_out) {
  int64_t next_ns = next_ns_.load(std::memory_order_relaxed);
  if (now_ns < next_ns || !next_ns_.compare_exchange_strong(next_ns, now_ns + interval_ns_)) {
    left_out_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  *left_out = left_out_.exchange(0);
  return true;
}

void warn_once(const std::string& message) {
  {
    MutexLock lock(given().mutex);
    if (!given().texts.insert(message).second) return;
  }
  log_warning("{}", message);
}

void set_log_hook(std::function<void(LogLevel, std::string_view)> function) {
  MutexLock lock(hook().mutex);
  hook().function = function
                        ? std::make_shared<const std::function<void(LogLevel, std::string_view)>>(
                              std::move(function))
                        : nullptr;
}

void set_log_level(LogLevel level) {
  log_internal::level.store(static_cast<int>(level), std::memory_order_relaxed);
}

std::string_view version() { return TE_VERSION; }

}  // namespace te
