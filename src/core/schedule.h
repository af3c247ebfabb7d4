// Which of several paths to one peer takes the next slice: the one that is predicted to finish it
// first, by what is in flight on it and by how fast it was lately. Slices wait in one queue and are
// given out as late as possible, so that a path that slows down holds few of them.
//
// Pure: time comes from the caller. A RateEstimator may be used by any thread; a Schedule by one at
// a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace te {

// What slices go through one after the other, a device or a path: what is in flight in it, and how
// fast it has been.
class RateEstimator {
 public:
  // `bytes_per_s` is believed until there are measurements, and again as they grow old; 0: a guess.
  explicit RateEstimator(uint64_t bytes_per_s = 0);

  void posted(uint64_t bytes, int64_t now_ns);
  // In order of posting, as a queue pair completes; `posted_ns` is when this one was posted.
  void completed(uint64_t bytes, int64_t posted_ns, int64_t now_ns);
  // It comes back undone.
  void returned(uint64_t bytes, int64_t now_ns);

  uint64_t queued_bytes() const { return queued_.load(std::memory_order_relaxed); }
  double bytes_per_s(int64_t now_ns) const;
  // In how many nanoseconds `bytes` more would be through.
  double finish_ns(uint64_t bytes, int64_t now_ns) const;

 private:
  const double nominal_;
  std::atomic<uint64_t> queued_{0};
  std::atomic<int64_t> progress_ns_{INT64_MIN / 2};  // of the last end, or of the first slice in it
  // Decaying sums of what went through and of the time it took.
  std::atomic<double> bytes_{0};
  std::atomic<double> busy_ns_{0};
};

// How long a path rests after failing so many times in a row: growing, never for good.
int64_t rest_ns(uint32_t failures);

class Schedule {
 public:
  static constexpr size_t kNone = SIZE_MAX;

  // A path through `device`, which other peers' paths may share and which must outlive this.
  // `handicap` multiplies its predicted time: 1 for the nearest device, more for one further away.
  // At most `max_slices` are in flight on it. Not usable until set_usable().
  size_t add(RateEstimator& device, uint64_t bytes_per_s, double handicap, uint32_t max_slices);
  void set_usable(size_t path, bool usable) { links_[path]->usable = usable; }
  bool usable(size_t path) const { return links_[path]->usable; }
  bool any_usable() const;
  size_t size() const { return links_.size(); }
  uint64_t queued_bytes(size_t path) const { return links_[path]->own.queued_bytes(); }
  double bytes_per_s(size_t path, int64_t now_ns) const {
    return links_[path]->own.bytes_per_s(now_ns);
  }

  // The path for a slice of `bytes`, behind which `backlog` more wait. kNone when none is usable,
  // or when waiting for a faster one to have room finishes it sooner: ask again after the next end.
  // `penalties`, by path, where there are any, multiply the handicaps for this slice; 0: not there.
  size_t choose(uint64_t bytes, uint64_t backlog, int64_t now_ns,
                std::span<const double> penalties = {}) const;
  void posted(size_t path, uint64_t bytes, int64_t now_ns);
  void completed(size_t path, uint64_t bytes, int64_t posted_ns, int64_t now_ns);
  void returned(size_t path, uint64_t bytes, int64_t now_ns);

 private:
  struct Link {
    Link(RateEstimator& through, uint64_t bytes_per_s, double times, uint32_t most)
        : device(through), own(bytes_per_s), handicap(times), max_slices(most) {}
    Link(Link&& other) = delete;

    RateEstimator& device;
    RateEstimator own;
    const double handicap;
    const uint32_t max_slices;
    uint32_t slices = 0;
    bool usable = false;
  };

  bool has_room(const Link& link, uint64_t bytes, int64_t now_ns) const;

  std::vector<std::unique_ptr<Link>> links_;
};

}  // namespace te
