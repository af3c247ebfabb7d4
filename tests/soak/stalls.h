// When this process did not run: stopped by a signal, or starved of a processor. What is late by
// such a time is not the library's fault.
//
// StallLog: any thread. Heartbeat owns a thread that sleeps a few milliseconds at a time; each time
// it wakes late, the process stood still that long.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

namespace te::soak {

int64_t monotonic_ns();

class StallLog {
 public:
  // Entries older than this before the newest are dropped.
  static constexpr int64_t kKeptNs = 300'000'000'000;

  void add(int64_t begin_ns, int64_t end_ns);
  // How much of [begin, end] was spent in stalls.
  int64_t within(int64_t begin_ns, int64_t end_ns) const;

 private:
  struct Stall {
    int64_t begin_ns;
    int64_t end_ns;
  };
  mutable std::mutex mutex_;
  std::deque<Stall> stalls_;
};

// How late a task ended: past its deadline, less what the process did not run of that time.
// Negative before the deadline.
int64_t lateness_ns(const StallLog& stalls, int64_t deadline_ns, int64_t end_ns);

class Heartbeat {
 public:
  explicit Heartbeat(StallLog& log);
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;
  // Returns once the time until now is in the log.
  void catch_up() const;

 private:
  void run();

  StallLog& log_;
  std::atomic<bool> ended_{false};
  std::atomic<int64_t> beat_ns_{0};
  std::thread thread_;
};

}  // namespace te::soak
