// The slices that wait for one peer, which of a transport's paths to it takes the next one, and
// which of those paths rest because they failed.
//
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/batch.h"
#include "core/schedule.h"

namespace te::rails {

class RailQueue {
 public:
  static constexpr size_t kNone = Schedule::kNone;

  // `path`, and `device`, which other peers' paths may share, outlive this. As Schedule::add().
  size_t add(Path& path, RateEstimator& device, uint64_t bytes_per_s, double handicap,
             uint32_t max_slices);
  size_t size() const { return members_.size(); }

  void push(SliceList& slices);
  // One that came back, before all others.
  void push_front(Slice* slice);
  bool empty() const { return waiting_.empty(); }
  Slice* front() const { return waiting_.first; }
  Slice* pop();
  SliceList take_all();
  SliceList take_cancelled();

  // The path for the slice at the front; penalties as Schedule::choose().
  size_t choose(int64_t now_ns, std::span<const double> penalties) const;
  // Takes the slice at the front for that path.
  Slice* bind(size_t path, int64_t now_ns);
  void completed(size_t path, uint64_t bytes, int64_t posted_ns, int64_t now_ns);
  void returned(size_t path, uint64_t bytes, int64_t now_ns);

  // It proved itself: it takes slices from now on.
  void ready(size_t path);
  // It takes none, though nothing is wrong with it.
  void idle(size_t path);
  // It failed: it takes none, and is not to be tried again before it rested.
  void failed(size_t path, int64_t now_ns);
  // What made it fail is over: no need to rest.
  void forgive(size_t path);
  bool usable(size_t path) const { return schedule_.usable(path); }
  bool resting(size_t path, int64_t now_ns) const { return now_ns < members_[path].rest_until_ns; }
  // Whether it failed, and has not proved itself since.
  bool doubtful(size_t path) const { return members_[path].rest_until_ns != 0; }
  bool any_usable() const { return schedule_.any_usable(); }
  int64_t rest_until_ns(size_t path) const { return members_[path].rest_until_ns; }

 private:
  struct Member {
    Path* path;
    uint32_t failures = 0;      // in a row
    int64_t rest_until_ns = 0;  // 0: it did not fail
  };

  Schedule schedule_;
  std::vector<Member> members_;
  SliceList waiting_;
  uint64_t waiting_bytes_ = 0;
};

}  // namespace te::rails
