// The rails to one peer, where there are several, and the slices that wait for it: each goes, as
// late as possible, to the rail that is predicted to finish it first.
//
// Threads: any. submit() and advance() take progress locks, so nobody calls them with one; the rest
// may be called with one.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "transport/progress/progress.h"
#include "transport/rails/memory_regions.h"
#include "transport/rails/rail.h"
#include "transport/rails/rail_queue.h"

namespace te::rails {

// What is assumed of a NIC until it shows how fast it is.
struct NicSpeed {
  RateEstimator& rate;       // what the NIC moves for all peers
  uint64_t bytes_per_s = 0;  // as the device says; 0: it does not
  uint32_t most_slices = 1;  // under way on one rail
};

// Of a rail between NICs of these speeds; 0: not known.
inline uint64_t slower(uint64_t one, uint64_t other) {
  return one == 0 || other == 0 ? std::max(one, other) : std::min(one, other);
}

struct PeerRailsOptions {
  // Which local NICs know a slice's memory, and which are near it; null: all of them do.
  const MemoryRegions* local_memory = nullptr;
  // The driver connects rails that failed by itself, once they rested: slices wait for that.
  bool reconnects = false;
};

class PeerRails final : public Backlog {
 public:
  explicit PeerRails(const PeerRailsOptions& options) : options_(options) {}

  // The next rail, before any other call. Those that are not `preferred` take part when one of the
  // others failed, or when they are connected anyway. As RailQueue::add().
  void add(const std::shared_ptr<Rail>& rail, const NicSpeed& speed, bool preferred);
  // Whether one of the rails leads to a NIC that knows the buffer.
  bool reaches(const std::byte* key) const { return (Key::nics_of(key) & remote_nics_) != 0; }

  // Else why not, with the slices still the caller's: after end() or close().
  Code submit(SliceList& slices);
  // Hands over what has room now, and connects what would help.
  void advance() override;

  // What became of a rail. Each may make advance() worth a call.
  void ready(size_t place);
  void idle(size_t place);  // not connected any more, for no fault of its own
  // Returns what waits, when no rail is left that it could wait for.
  SliceList failed(size_t place);
  std::vector<std::shared_ptr<Rail>> others(size_t place) const;

  // A slice that was handed over completed. `posted_ns`: 0 where it was not posted.
  void completed(size_t place, uint64_t bytes, Code code, int64_t posted_ns);
  // It was handed over and is to wait here again, before all others. False: it cannot, since no
  // rail is left, or since the peer is gone.
  bool take_back(size_t place, Slice* slice);

  SliceList take_cancelled();
  SliceList take_all();
  // This run of the peer is gone: takes what waits, and nothing more from then on.
  SliceList end(Code code);
  SliceList close() { return end(Code::kCancelled); }
  // What end() was called with; kOk before.
  Code ended() const { return ended_.load(); }

 private:
  struct Member {
    std::weak_ptr<Rail> rail;
    size_t local = 0, remote = 0;  // NICs
    bool preferred = false;
    bool connecting = false;
  };

  // False: no rail reaches both ends of the slice.
  bool find_penalties(const Slice& slice) TE_REQUIRES(mutex_);
  // Whether a rail is usable, or will be.
  bool hope() const TE_REQUIRES(mutex_);
  bool way_out() const TE_REQUIRES(mutex_);
  bool untried(size_t place) const TE_REQUIRES(mutex_);
  std::vector<std::shared_ptr<Rail>> to_connect(int64_t now) TE_REQUIRES(mutex_);

  const PeerRailsOptions options_;
  NicSet remote_nics_ = 0;
  std::atomic<Code> ended_{Code::kOk};  // changed under the mutex
  mutable Mutex mutex_{LockRank::kRails};
  RailQueue queue_ TE_GUARDED_BY(mutex_);
  std::vector<Member> members_ TE_GUARDED_BY(mutex_);
  std::vector<double> penalties_ TE_GUARDED_BY(mutex_);  // of the slice in question
  bool dead_ TE_GUARDED_BY(mutex_) = false;  // what waited was returned, for no rail was left
};

}  // namespace te::rails
