#include "core/schedule.h"

#include <algorithm>

namespace te {
namespace {

constexpr double kGuess = 1e9;  // bytes per second, of a device that does not tell
constexpr double kNs = 1e9;
constexpr uint64_t kMeasured = 16'384;  // smaller slices measure latency, not bandwidth
constexpr double kDecay = 0.75;         // of the sums, with every measured slice
constexpr double kForgetNs = 1e9;       // idle for so long, a path is believed twice as fast
// In flight on a path: two slices, so that it never runs dry, or what it moves in this time.
constexpr double kWindowNs = 200'000;
constexpr uint64_t kWindowSlices = 2;

constexpr int64_t kFirstRestNs = 100'000'000;
constexpr int64_t kLongestRestNs = 5'000'000'000;

}  // namespace

RateEstimator::RateEstimator(uint64_t bytes_per_s)
    : nominal_(bytes_per_s == 0 ? kGuess : static_cast<double>(bytes_per_s)) {}

void RateEstimator::posted(uint64_t bytes, int64_t now_ns) {
  if (queued_.fetch_add(bytes, std::memory_order_relaxed) == 0) {
    progress_ns_.store(now_ns, std::memory_order_relaxed);
  }
}

void RateEstimator::completed(uint64_t bytes, int64_t posted_ns, int64_t now_ns) {
  const int64_t began =
      std::max(posted_ns, progress_ns_.exchange(now_ns, std::memory_order_relaxed));
  queued_.fetch_sub(bytes, std::memory_order_relaxed);
  if (bytes < kMeasured) return;
  // Two threads at once may lose one of two measurements; the next makes up for it.
  const auto took = static_cast<double>(std::max<int64_t>(now_ns - began, 0));
  bytes_.store(bytes_.load(std::memory_order_relaxed) * kDecay + static_cast<double>(bytes),
               std::memory_order_relaxed);
  busy_ns_.store(busy_ns_.load(std::memory_order_relaxed) * kDecay + took,
                 std::memory_order_relaxed);
}

void RateEstimator::returned(uint64_t bytes, int64_t now_ns) {
  queued_.fetch_sub(bytes, std::memory_order_relaxed);
  progress_ns_.store(now_ns, std::memory_order_relaxed);
}

double RateEstimator::bytes_per_s(int64_t now_ns) const {
  const double busy_ns = busy_ns_.load(std::memory_order_relaxed);
  const double measured =
      busy_ns > 0 ? bytes_.load(std::memory_order_relaxed) * kNs / busy_ns : nominal_;
  const auto queued = static_cast<double>(queued_bytes());
  const auto since = static_cast<double>(
      std::max<int64_t>(now_ns - progress_ns_.load(std::memory_order_relaxed), 0));
  if (queued == 0) {
    return measured >= nominal_ ? measured : std::min(nominal_, measured * (1 + since / kForgetNs));
  }
  // Silent for longer than all in flight should take: it is as slow as that.
  return since > 2 * queued * kNs / measured ? queued * kNs / since : measured;
}

double RateEstimator::finish_ns(uint64_t bytes, int64_t now_ns) const {
  return static_cast<double>(queued_bytes() + bytes) * kNs / bytes_per_s(now_ns);
}

int64_t rest_ns(uint32_t failures) {
  int64_t rest = kFirstRestNs;
  for (uint32_t i = 1; i < failures && rest < kLongestRestNs; ++i) rest += rest / 2;
  return std::min(rest, kLongestRestNs);
}

size_t Schedule::add(RateEstimator& device, uint64_t bytes_per_s, double handicap,
                     uint32_t max_slices) {
  links_.push_back(std::make_unique<Link>(device, bytes_per_s, handicap, max_slices));
  return links_.size() - 1;
}

bool Schedule::any_usable() const {
  return std::any_of(links_.begin(), links_.end(), [](const auto& link) { return link->usable; });
}

bool Schedule::has_room(const Link& link, uint64_t bytes, int64_t now_ns) const {
  if (link.slices >= link.max_slices) return false;
  if (link.slices < kWindowSlices) return true;
  const double window = link.own.bytes_per_s(now_ns) * kWindowNs / kNs;
  return static_cast<double>(link.own.queued_bytes() + bytes) <= window;
}

size_t Schedule::choose(uint64_t bytes, uint64_t backlog, int64_t now_ns,
                        std::span<const double> penalties) const {
  if (links_.size() == 1) {
    const Link& only = *links_.front();
    const bool reaches = penalties.empty() || penalties[0] != 0;
    return only.usable && reaches && has_room(only, bytes, now_ns) ? 0 : kNone;
  }
  size_t best = kNone;
  double best_ns = 0, soonest_ns = 0, rates = 0;
  auto waiting = static_cast<double>(bytes + backlog);
  for (size_t i = 0; i < links_.size(); ++i) {
    const Link& link = *links_[i];
    const double penalty = penalties.empty() ? 1 : penalties[i];
    if (!link.usable || penalty == 0) continue;
    const double finish =
        std::max(link.own.finish_ns(bytes, now_ns), link.device.finish_ns(bytes, now_ns)) *
        link.handicap * penalty;
    if (soonest_ns == 0 || finish < soonest_ns) soonest_ns = finish;
    rates += link.own.bytes_per_s(now_ns);
    waiting += static_cast<double>(link.own.queued_bytes());
    if ((best == kNone || finish < best_ns) && has_room(link, bytes, now_ns)) {
      best = i;
      best_ns = finish;
    }
  }
  if (best == kNone) return kNone;
  // A slower path is worth it if it is done when the rest of the queue is done elsewhere.
  const double drained_ns = waiting * kNs / rates;
  return best_ns <= std::max(soonest_ns, drained_ns) ? best : kNone;
}

void Schedule::posted(size_t path, uint64_t bytes, int64_t now_ns) {
  Link& link = *links_[path];
  ++link.slices;
  link.own.posted(bytes, now_ns);
  link.device.posted(bytes, now_ns);
}

void Schedule::completed(size_t path, uint64_t bytes, int64_t posted_ns, int64_t now_ns) {
  Link& link = *links_[path];
  --link.slices;
  link.own.completed(bytes, posted_ns, now_ns);
  link.device.completed(bytes, posted_ns, now_ns);
}

void Schedule::returned(size_t path, uint64_t bytes, int64_t now_ns) {
  Link& link = *links_[path];
  --link.slices;
  link.own.returned(bytes, now_ns);
  link.device.returned(bytes, now_ns);
}

}  // namespace te
