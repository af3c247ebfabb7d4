// Whether what is copied goes past the caches: so much is asked for at once, or without a pause,
// that it would not stay in them.
//
// Not thread-safe: the pool's lock protects it.
#pragma once

#include <algorithm>
#include <cstdint>

namespace te {

class CopyStream {
 public:
  // Less at once is no reason to look at the clock.
  static constexpr uint64_t kLeast = 128 << 10;

  // At least kLeast were added to the queue, which now has `queued`.
  void add(uint64_t bytes, uint64_t queued, int64_t now_ns) {
    if (now_ns - busy_ns_ > kPauseNs) without_pause_ = 0;
    busy_ns_ = now_ns;
    without_pause_ += bytes;
    if (without_pause_ >= kStreamBytes) bytes_ = queued;
  }
  // Whether what is taken from the queue now is part of it.
  bool streaming() const { return bytes_ > 0; }
  void take(uint64_t bytes) { bytes_ -= std::min(bytes_, bytes); }
  // So much was copied until now.
  void copied(int64_t now_ns) { busy_ns_ = now_ns; }

 private:
  static constexpr uint64_t kStreamBytes = 16 << 20;
  static constexpr int64_t kPauseNs = 100'000;

  uint64_t bytes_ = 0;          // of what is queued, the least to be streamed
  uint64_t without_pause_ = 0;  // bytes, asked for one upon another
  int64_t busy_ns_ = 0;         // when these were last worked at
};

}  // namespace te
