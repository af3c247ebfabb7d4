// What the kernel knows of a process, for tests that nothing leaks or spins; and waiting for a
// condition.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>

namespace te::test {

// Sanitizers keep memory back, take it for themselves and slow everything down.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitized = true;
#else
inline constexpr bool kThreadSanitized = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = kThreadSanitized;
#endif

// Of this process (pid 0) or another. SIZE_MAX when it is not there.
size_t resident_bytes(pid_t pid = 0);
size_t open_descriptors(pid_t pid = 0);
// What they are, a line each, for messages.
std::string descriptor_names(pid_t pid = 0);
size_t thread_count(pid_t pid = 0);
// User and system time so far.
int64_t cpu_ms(pid_t pid = 0);

// SIGSTOP, and returns when every thread of it stands still: some run on for a moment, longer on a
// busy machine. False: they do not stop.
bool stop_process(pid_t pid);

// A limit on waiting that slow machines and sanitizers do not reach.
inline constexpr std::chrono::milliseconds kPatience{20'000};

// Whether `condition` became true within `limit`.
template <typename Condition>
bool eventually(Condition&& condition, std::chrono::milliseconds limit = kPatience) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= until) return condition();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

class Stopwatch {
 public:
  int64_t ms() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                                 begin_)
        .count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace te::test
