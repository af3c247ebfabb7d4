#include "soak/stalls.h"

#include <algorithm>
#include <chrono>

namespace te::soak {
namespace {

constexpr int64_t kBeatNs = 5'000'000;
constexpr int64_t kGraceNs = 1'000'000;  // timers are never exact

}  // namespace

int64_t monotonic_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void StallLog::add(int64_t begin_ns, int64_t end_ns) {
  if (end_ns <= begin_ns) return;
  const std::lock_guard lock(mutex_);
  stalls_.push_back({begin_ns, end_ns});
  while (stalls_.front().end_ns < end_ns - kKeptNs) stalls_.pop_front();
}

int64_t StallLog::within(int64_t begin_ns, int64_t end_ns) const {
  const std::lock_guard lock(mutex_);
  int64_t sum = 0;
  for (auto stall = stalls_.rbegin(); stall != stalls_.rend() && stall->end_ns > begin_ns;
       ++stall) {
    sum +=
        std::max<int64_t>(0, std::min(end_ns, stall->end_ns) - std::max(begin_ns, stall->begin_ns));
  }
  return sum;
}

int64_t lateness_ns(const StallLog& stalls, int64_t deadline_ns, int64_t end_ns) {
  if (end_ns <= deadline_ns) return end_ns - deadline_ns;
  return end_ns - deadline_ns - stalls.within(deadline_ns, end_ns);
}

Heartbeat::Heartbeat(StallLog& log) : log_(log), beat_ns_(monotonic_ns()) {
  thread_ = std::thread([this] { run(); });
}

Heartbeat::~Heartbeat() {
  ended_ = true;
  thread_.join();
}

void Heartbeat::catch_up() const {
  const int64_t now = monotonic_ns();
  while (beat_ns_.load() < now) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void Heartbeat::run() {
  int64_t before = beat_ns_.load();
  while (!ended_) {
    std::this_thread::sleep_for(std::chrono::nanoseconds(kBeatNs));
    const int64_t now = monotonic_ns();
    if (now - before > kBeatNs + kGraceNs) log_.add(before + kBeatNs, now);
    beat_ns_ = before = now;
  }
}

}  // namespace te::soak
