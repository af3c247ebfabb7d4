// Which of the threads that wait for batches does the work of a transport's own threads meanwhile
// (see Transport::progress): one at a time, a visitor, and none for a while after several wanted
// to.
//
// Threads: any.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"
#include "base/mutex.h"

namespace te {

class Visits {
 public:
  explicit Visits(int64_t (*clock)() = now_ns) : clock_(clock) {}

  // True: the caller visits until end() or leave(). False: it is to sleep, and the transport's own
  // threads do the work.
  bool begin() {
    if (const int64_t crowded = crowded_until_ns_.load(); crowded != 0) {
      if (clock_() < crowded) return false;
      crowded_until_ns_.store(0);
    }
    if (enter()) return true;
    crowd();
    return false;
  }
  // The same for what is no visit, but may not meet one either.
  bool enter() { return !visiting_.exchange(true); }
  void leave() { visiting_.store(false); }

  // Several threads want something: no visits for now. Who visits notices by crowded().
  void crowd() { crowded_until_ns_.store(clock_() + kCrowdNs); }
  bool crowded() const { return crowded_until_ns_.load() != 0; }

  // Ends a visit. `returns`: the visitor is likely to be back soon, and the transport's own threads
  // can stay away. True: they cannot, for that reason or since somebody was sent away, who sleeps.
  bool end(bool returns) {
    const bool leased = returns && !crowded();
    lease_until_ns_.store(leased ? clock_() + kLeaseNs : 0);
    leave();
    if (leased && !crowded()) return false;
    lease_until_ns_.store(0);
    return true;
  }
  // Whether a visitor is here, or likely to be back soon.
  bool expected(int64_t now) const { return visiting_.load() || leased(now); }
  bool leased(int64_t now) const { return now < lease_until_ns_.load(); }

  // Whether the transport's own thread, which had the turn last at `attended_ns`, leaves it to a
  // visitor. Where it waited for the turn, whoever ends one would have to wake it, and most often
  // take the next turn before it is awake.
  bool leave_to_visitor(Mutex& turn, int64_t attended_ns, int64_t now) const {
    if (!expected(now) || now - attended_ns >= kLeftAloneNs) return false;
    if (!turn.try_lock()) return true;
    turn.unlock();
    return false;
  }

  static constexpr int64_t kLeaseNs = 2 * kNsPerMs;
  static constexpr int64_t kLeftAloneNs = 20 * kNsPerMs;  // a visitor, by the transport's thread

 private:
  static constexpr int64_t kCrowdNs = 10 * kNsPerMs;

  int64_t (*const clock_)();
  std::atomic<bool> visiting_{false};
  std::atomic<int64_t> lease_until_ns_{0};
  std::atomic<int64_t> crowded_until_ns_{0};  // 0: not crowded
};

}  // namespace te
