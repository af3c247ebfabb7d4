// Whether it pays to poll for something before sleeping for it.
#pragma once

#include <algorithm>
#include <cstdint>

namespace te {

// A thread that polls gives way to others that want its core now and then.
inline constexpr int kPollsPerYield = 16;

// Polls for at most `limit_ns`, and only while what is waited for has lately come within that time:
// what comes later than that is not worth a core. One thread at a time.
class SpinPolicy {
 public:
  explicit SpinPolicy(int64_t limit_ns) : limit_ns_(limit_ns), expected_ns_(limit_ns / 2) {}

  // How long to poll now; 0: sleep at once.
  int64_t budget_ns() const { return expected_ns_ < limit_ns_ ? limit_ns_ : 0; }
  // It came this long after the wait for it began.
  void came_after(int64_t ns) { expected_ns_ += (std::min(ns, 4 * limit_ns_) - expected_ns_) / 4; }

 private:
  int64_t limit_ns_;
  int64_t expected_ns_;
};

}  // namespace te
