#include "base/connect_retry.h"

#include <algorithm>

#include "base/clock.h"
#include "base/random.h"

namespace te {
namespace {

constexpr int64_t kFirstStepMs = 20;
constexpr int64_t kLongestStepMs = 320;
constexpr int kMaxLost = 5;

}  // namespace

int64_t ConnectRetry::next_ms(Code code, bool connected, int64_t now_ns) {
  const bool no_room = code == Code::kBusy || code == Code::kResource;
  const bool lost = code == Code::kUnavailable && connected && ++lost_ <= kMaxLost;
  if (!no_room && !lost) return -1;
  step_ms_ = std::clamp(step_ms_ * 2, kFirstStepMs, kLongestStepMs);
  const auto half = static_cast<uint64_t>(step_ms_ / 2);
  const auto delay_ms = static_cast<int64_t>(half + random_u64() % (half + 1));
  return now_ns + delay_ms * kNsPerMs < deadline_ns_ ? delay_ms : -1;
}

}  // namespace te
