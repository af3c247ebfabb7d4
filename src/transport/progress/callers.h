// Which of the threads that wait for batches makes progress for a transport (see
// Transport::progress): one at a time. When several want to at once, all of them back off for a
// while, and the transport's own threads do the work.
//
// Threads: any.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"
#include "base/mutex.h"

namespace te {

class CallerProgress {
 public:
  explicit CallerProgress(int64_t (*clock)() = now_ns) : clock_(clock) {}

  // True: the caller makes progress until end() or leave(). False: it sleeps, and the transport's
  // own threads do the work.
  bool begin() {
    if (const int64_t until = backed_off_until_ns_.load(); until != 0) {
      if (clock_() < until) return false;
      backed_off_until_ns_.store(0);
    }
    if (enter()) return true;
    back_off();
    return false;
  }
  // Keeps callers out for work that may not run beside theirs. False: one is inside.
  bool enter() { return !inside_.exchange(true); }
  void leave() { inside_.store(false); }

  // Several threads want to make progress: none does for now. The one inside notices by
  // backed_off().
  void back_off() { backed_off_until_ns_.store(clock_() + kBackOffNs); }
  bool backed_off() const { return backed_off_until_ns_.load() != 0; }

  // Ends what begin() began. `returns`: the caller is likely to be back soon, and the transport's
  // own threads can stay away. True: they cannot, because it is not, or because another thread
  // backed off and sleeps.
  bool end(bool returns) {
    const bool leased = returns && !backed_off();
    lease_until_ns_.store(leased ? clock_() + kLeaseNs : 0);
    leave();
    if (leased && !backed_off()) return false;
    lease_until_ns_.store(0);
    return true;
  }
  // Whether a caller is inside, or likely to be back soon.
  bool expected(int64_t now) const { return inside_.load() || leased(now); }
  bool leased(int64_t now) const { return now < lease_until_ns_.load(); }

  // Whether the transport's own thread, which held the progress lock last at `attended_ns`, leaves
  // the work to a caller. If it waited for the lock, every unlock would have to wake it, and the
  // caller would most often hold the lock again before it is awake.
  bool leave_to_caller(Mutex& lock, int64_t attended_ns, int64_t now) const {
    if (!expected(now) || now - attended_ns >= kLeftAloneNs) return false;
    if (!lock.try_lock()) return true;
    lock.unlock();
    return false;
  }

  static constexpr int64_t kLeaseNs = 2 * kNsPerMs;
  // The longest time for which the transport's own thread leaves a caller alone.
  static constexpr int64_t kLeftAloneNs = 20 * kNsPerMs;

 private:
  static constexpr int64_t kBackOffNs = 10 * kNsPerMs;

  int64_t (*const clock_)();
  std::atomic<bool> inside_{false};
  std::atomic<int64_t> lease_until_ns_{0};
  std::atomic<int64_t> backed_off_until_ns_{0};  // 0: not backed off
};

}  // namespace te
