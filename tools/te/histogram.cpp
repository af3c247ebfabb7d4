#include "histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace te::tool {

// A value of `width` bits keeps its kExactBits highest bits; the shift says which power of two it
// is in. The top bit is then always set, so each shift adds kHalf new buckets.
size_t Histogram::bucket_of(uint64_t value) {
  const unsigned width = static_cast<unsigned>(std::bit_width(value));
  if (width <= kExactBits) return static_cast<size_t>(value);
  const unsigned shift = width - kExactBits;
  return shift * kHalf + static_cast<size_t>(value >> shift);
}

uint64_t Histogram::last_value_of(size_t bucket) {
  if (bucket < 2 * kHalf) return bucket;
  const size_t shift = bucket / kHalf - 1;
  const uint64_t top = bucket - shift * kHalf;
  // For the last bucket top + 1 is 2^kExactBits and the shift wraps to 0, minus 1 the largest
  // value.
  return ((top + 1) << shift) - 1;
}

void Histogram::record(uint64_t value) {
  ++buckets_[bucket_of(value)];
  ++count_;
  min_ = std::min(min_, value);
  max_ = std::max(max_, value);
}

void Histogram::merge(const Histogram& other) {
  for (size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
}

uint64_t Histogram::percentile(double percent) const {
  if (count_ == 0) return 0;
  const double share = std::clamp(percent, 0.0, 100.0) / 100.0;
  // Less a hair, for products such as 0.999 * 1000 that come out above the whole number they mean.
  const double exact_rank = std::ceil(share * static_cast<double>(count_) - 1e-6);
  const uint64_t rank =
      std::clamp<uint64_t>(static_cast<uint64_t>(std::max(exact_rank, 0.0)), 1, count_);
  uint64_t seen = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    seen += buckets_[i];
    if (seen >= rank) return std::min(last_value_of(i), max_);
  }
  return max_;
}

}  // namespace te::tool
