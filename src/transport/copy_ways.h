// Which way of copying much is the fastest here. Each is measured on what there is to copy: for
// kTurnBytes, of which the second half counts, because the first half pays for what the way before
// has left in the caches. From then on the fastest one copies, and now and then another one has a
// turn, in case the machine behaves differently.
//
// Not thread-safe: the pool's lock protects it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "transport/copy_bytes.h"

namespace te {

class CopyWays {
 public:
  // More than caches hold.
  static constexpr uint64_t kTurnBytes = 64 << 20;
  // Of that many turns, one is for a way that was not the fastest.
  static constexpr uint64_t kTurnsPerTrial = 128;

  // What is to be copied next goes this way.
  CopyWay way() const { return static_cast<CopyWay>(at_); }
  // One thread took so long for it.
  void copied(CopyWay way, uint64_t bytes, int64_t ns) {
    if (way != this->way()) return;  // it began in the turn before
    done_ += bytes;
    if (done_ <= kTurnBytes / 2) return;
    counted_bytes_ += bytes;
    counted_ns_ += std::max<int64_t>(ns, 1);
    if (done_ >= kTurnBytes) end_turn();
  }

 private:
  void end_turn() {
    const double rate = static_cast<double>(counted_bytes_) / static_cast<double>(counted_ns_);
    // One turn may have met a busy machine.
    rates_[at_] = rates_[at_] == 0 ? rate : (rates_[at_] + rate) / 2;
    done_ = counted_bytes_ = 0;
    counted_ns_ = 0;
    ++turns_;
    const auto unknown = std::ranges::find(rates_, 0.0);
    const auto best = std::ranges::max_element(rates_);
    at_ = static_cast<size_t>((unknown != rates_.end() ? unknown : best) - rates_.begin());
    if (unknown == rates_.end() && turns_ % kTurnsPerTrial == 0) {
      trial_ = (trial_ + 1) % rates_.size();
      at_ = trial_;
    }
  }

  std::array<double, kCopyWays> rates_{};  // bytes per ns; 0: not known yet
  size_t at_ = static_cast<size_t>(CopyWay::kStreaming);
  size_t trial_ = 0;
  uint64_t turns_ = 0;
  uint64_t done_ = 0;
  uint64_t counted_bytes_ = 0;
  int64_t counted_ns_ = 0;
};

}  // namespace te
