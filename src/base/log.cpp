#include "base/log.h"

#include <cstdio>
#include <functional>
#include <memory>

#include "base/mutex.h"

namespace te {
namespace {

constexpr std::string_view kNames[] = {"error", "warning", "info", "debug"};

struct Hook {
  Mutex mutex;
  std::shared_ptr<const std::function<void(LogLevel, std::string_view)>> function
      TE_GUARDED_BY(mutex);
};

// Never destroyed: threads may speak while the process ends.
Hook& hook() {
  static Hook* instance = new Hook;
  return *instance;
}

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

}  // namespace log_internal

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
