// The library's threads. The standard's class throws where the process may have no further thread
// (ulimit -u, a pids limit, ulimit -v); this one says so, and nothing else in src/ starts any.
//
// Threads: a Thread belongs to one thread at a time.
#pragma once

#include <pthread.h>
#include <time.h>

#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "base/log.h"

namespace te {

class Thread {
 public:
  // Runs `body` in a new thread, called `name` (15 characters at most). Signals for the application
  // are not handled there: all are blocked but SIGPROF and what instructions raise. An exception
  // that leaves `body`, such as for want of memory, is logged, and `body` begins anew.
  // kResource: the process may have no further thread.
  static Result<Thread> start(std::string_view name, std::function<void()> body);

  Thread() = default;
  Thread(Thread&& other) noexcept
      : handle_(other.handle_), joinable_(std::exchange(other.joinable_, false)) {}
  // This one must have been joined.
  Thread& operator=(Thread&& other) noexcept;
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;
  // Joined or detached before.
  ~Thread();

  bool joinable() const { return joinable_; }
  // Waits for its end. Nothing where none was started.
  void join();
  // It ends by itself.
  void detach();

 private:
  explicit Thread(pthread_t handle) : handle_(handle), joinable_(true) {}

  pthread_t handle_{};
  bool joinable_ = false;
};

// For run_guarded(). Never throws; says the same at most once a second.
TE_COLD void log_work_failed(const char* why) noexcept;

// Runs one piece of a thread's work. Where it throws, which memory shortage does, that is logged
// under the name of the calling thread, and the thread can go on. False: it threw.
template <typename Work>
bool run_guarded(Work&& work) {
  try {
    work();
    return true;
  } catch (const std::exception& failure) {
    log_work_failed(failure.what());
    return false;
  }
}

// The same for what nobody could do later, such as to stop something: some times, as memory may
// come back. False: it threw each time.
template <typename Work>
bool run_persistently(Work&& work) {
  constexpr int kAttempts = 3;
  constexpr timespec kPause{0, 5'000'000};
  for (int i = 0; i < kAttempts; ++i) {
    if (run_guarded(work)) return true;
    ::nanosleep(&kPause, nullptr);
  }
  return false;
}

}  // namespace te
