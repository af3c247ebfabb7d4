// A log-linear histogram of latencies in nanoseconds, of fixed size.
//
// Values below 64 are counted exactly, larger ones in 32 buckets per power of two, so a percentile
// is at most 1/32 (3.2%) above the true one. Nothing allocates. Threads: one writer; merge after it
// ended.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace te::tool {

class Histogram {
 public:
  void record(uint64_t value);
  // Adds everything that `other` counted.
  void merge(const Histogram& other);

  uint64_t count() const { return count_; }
  // 0 when nothing was recorded.
  uint64_t min() const { return count_ == 0 ? 0 : min_; }
  uint64_t max() const { return max_; }
  // The smallest value that at least `percent` (0 to 100) of the records do not exceed, rounded up
  // to the end of its bucket but never above max(). 0 when nothing was recorded.
  uint64_t percentile(double percent) const;

 private:
  static constexpr unsigned kExactBits = 6;  // values below 2^6 have a bucket each
  static constexpr size_t kHalf = size_t{1} << (kExactBits - 1);
  static constexpr size_t kBuckets = 2 * kHalf + (64 - kExactBits) * kHalf;

  static size_t bucket_of(uint64_t value);
  static uint64_t last_value_of(size_t bucket);

  std::array<uint64_t, kBuckets> buckets_{};
  uint64_t count_ = 0;
  uint64_t min_ = UINT64_MAX;
  uint64_t max_ = 0;
};

}  // namespace te::tool
