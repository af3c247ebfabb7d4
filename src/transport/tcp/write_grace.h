// How long WRITEs under way that are wanted back may still take to end by themselves: their
// deadlines have passed, but their bytes may arrive.
//
// Threads: one at a time, the receiver of the lane.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace te::tcp {

class WriteGrace {
 public:
  static constexpr int64_t kNs = 15 * kNsPerMs;

  // Whether the WRITEs below `tail` may go on, of which `first` is the oldest that is wanted back.
  // All that were sent by now share one time.
  bool may_finish(uint64_t first, uint64_t tail, int64_t now) {
    if (first >= below_) {
      below_ = tail;
      until_ns_ = now + kNs;
    }
    return now < until_ns_;
  }
  // The sequence numbers from `tail` on are used again.
  void reuse_from(uint64_t tail) { below_ = std::min(below_, tail); }

 private:
  uint64_t below_ = 0;
  int64_t until_ns_ = 0;
};

}  // namespace te::tcp
