#include "transport/tcp/zero_copy_trial.h"

namespace te::tcp {

void ZeroCopyTrial::sent(uint64_t bytes, int64_t cpu_ns) {
  if (without_copy()) refused_ = 0;
  if (verdict_ != Verdict::kOpen) return;
  bytes_ += bytes;
  cpu_ns_ += cpu_ns;
  if (bytes_ >= kPeriodBytes) end_period();
}

void ZeroCopyTrial::end_period() {
  const double cost = static_cast<double>(cpu_ns_) / static_cast<double>(bytes_);
  if (!copying_) {
    cost_without_copy_ = cost;
  } else {
    ++pairs_;
    if (cost >= kGain * cost_without_copy_) ++wins_;
    if (wins_ == kWinsToKeep) verdict_ = Verdict::kKeep;
    if (pairs_ - wins_ > kPairs - kWinsToKeep) verdict_ = Verdict::kGiveUp;
  }
  copying_ = !copying_;
  bytes_ = 0;
  cpu_ns_ = 0;
}

void ZeroCopyTrial::reported(uint64_t sends, uint64_t copied) {
  if (forced_ || sends - reported_ < kReported) return;
  // All that is new is judged together, however much it is.
  if ((copied - copied_) * kReported > kMostCopied * (sends - reported_))
    verdict_ = Verdict::kGiveUp;
  reported_ = sends;
  copied_ = copied;
}

void ZeroCopyTrial::refused() {
  if (++refused_ >= kMostRefused && !forced_) verdict_ = Verdict::kGiveUp;
}

}  // namespace te::tcp
