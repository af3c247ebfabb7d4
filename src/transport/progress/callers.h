// Progress by the threads that wait for batches (see Transport::progress): one caller at a time
// works for a transport, polls while that pays, and sleeps until there is something to do. When
// several callers want to work at once, all of them back off for a while, and the transport's own
// threads do the work.
//
// Threads: any, unless stated.
#pragma once

#include <poll.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/spin.h"
#include "base/waker.h"

namespace te {

// What wakes a caller, beside its Waker.
class CallerSleep {
 public:
  static constexpr size_t kMost = 64;  // descriptors

  // `descriptor` -1: never ready.
  void listen(int descriptor, short events) {
    if (count_ < kMost) entries_[1 + count_++] = {descriptor, events, 0};
  }
  void at_most(int64_t ns) { limit_ns_ = ns < limit_ns_ ? ns : limit_ns_; }

  // After the sleep: which events came, in the order of listen().
  size_t count() const { return count_; }
  short events(size_t i) const { return entries_[1 + i].revents; }

 private:
  friend class CallerProgress;
  // True: `waker` was woken.
  bool sleep(Waker& waker, int64_t left_ns);

  std::array<pollfd, 1 + kMost> entries_;  // the first one is the waker's
  size_t count_ = 0;
  int64_t limit_ns_ = kNever;
};

// The work of a caller. Called by the one inside.
class CallerWork {
 public:
  enum class BeforeSleep {
    kSleep,
    kLookAgain,  // there is something to do already
    kNoWay,      // the caller cannot sleep here
  };

  virtual ~CallerWork() = default;
  // Looks for completions up to `polls` times, until there are some, and reports them. True: there
  // were some.
  virtual bool work(int polls) = 0;
  // Whether there is anything to wait for.
  virtual bool pending() const = 0;
  // Whether it may complete within microseconds.
  virtual bool worth_polling() const { return pending(); }
  // The caller is about to sleep, and can be woken by wake() from here on.
  virtual BeforeSleep before_sleep(CallerSleep& sleep) = 0;
  virtual void after_sleep(const CallerSleep& sleep) { (void)sleep; }
};

class CallerProgress {
 public:
  // `spin_ns`: for how long a caller polls before it sleeps, where completions came that soon
  // lately. `polls_at_once`: how often one looks that does not want to wait.
  CallerProgress(int64_t spin_ns, int polls_at_once, int64_t (*clock)() = now_ns)
      : clock_(clock), polls_at_once_(polls_at_once), spin_(spin_ns) {}

  // True: the caller works until end() or leave(). False: it sleeps elsewhere, and the transport's
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

  // Between begin() and end(). Returns when something completed, when `waker` was woken (and clears
  // it), or at `until_ns`; 0: at once, without a sleep. False: nothing completed, and the caller
  // did not sleep.
  bool run(CallerWork& work, int64_t until_ns, Waker& waker);

  // Several threads want to make progress: none does for now. The one inside notices by
  // backed_off().
  void back_off() { backed_off_until_ns_.store(clock_() + kBackOffNs); }
  bool backed_off() const { return backed_off_until_ns_.load() != 0; }

  // Wakes the caller inside, if it sleeps. What it is woken for was stored before this call, so
  // before_sleep() sees it otherwise.
  void wake();

  // Ends what begin() began. `returns`: the caller is likely to be back soon, and the transport's
  // own threads can stay away. True: they cannot, because it is not, or because another thread
  // backed off and sleeps.
  bool end(bool returns) {
    const bool leased = returns && !backed_off();
    // leave() publishes it.
    lease_until_ns_.store(leased ? clock_() + kLeaseNs : 0, std::memory_order_relaxed);
    leave();
    if (leased && !backed_off()) return false;
    lease_until_ns_.store(0, std::memory_order_relaxed);
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

  // False: it did not sleep.
  bool sleep(CallerWork& work, int64_t until_ns, Waker& waker);

  int64_t (*const clock_)();
  const int polls_at_once_;
  std::atomic<bool> inside_{false};
  std::atomic<int64_t> lease_until_ns_{0};
  std::atomic<int64_t> backed_off_until_ns_{0};  // 0: not backed off

  SpinPolicy spin_;                       // of the one inside
  std::atomic<Waker*> sleeper_{nullptr};  // of the one inside, while wake() may use it
  std::atomic<int> wakes_{0};             // calls of wake() under way
};

}  // namespace te
