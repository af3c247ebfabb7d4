// The paths to one peer, where there are several, and the slices that wait for it: each goes, as
// late as possible, to the path that is predicted to finish it first.
//
// Threads: any. post() and advance() hand over to initiators, so nobody calls them in a turn; the
// rest may be called in one.
#pragma once

#include <memory>
#include <vector>

#include "base/mutex.h"
#include "transport/rails/memory_regions.h"
#include "transport/rails/path_queue.h"

namespace te::fabric {

class FabricPath;

class Group {
 public:
  // `local_memory`: null where the provider does not ask for it.
  explicit Group(const rails::MemoryRegions* local_memory) : local_memory_(local_memory) {}

  // The next path, before any other call. Those that are not `preferred` take part when one of the
  // others failed, or when they are connected anyway.
  void add(const std::shared_ptr<FabricPath>& path, bool preferred);
  // Whether one of the paths leads to a card that knows the buffer.
  bool reaches(const std::byte* key) const {
    return (rails::Key::nics_of(key) & remote_cards_) != 0;
  }

  // False, with the slices still the caller's, after close().
  bool post(SliceList& slices);
  // Hands over what has a place now, and connects what would help.
  void advance();

  // What became of a path. Each may make advance() worth a call.
  void ready(size_t path);
  void idle(size_t path);  // through a new endpoint: nothing to rest for
  // Returns what waits, when no path is left that it could wait for.
  SliceList failed(size_t path);
  std::vector<std::shared_ptr<FabricPath>> others(size_t path) const;
  // A slice came back that was handed over. `posted_ns` is 0 where it was not posted.
  void ended(size_t path, uint64_t bytes, Code code, int64_t posted_ns);

  SliceList take_cancelled();
  SliceList take_all();
  // Takes what waits, and nothing more from then on.
  SliceList close();

 private:
  struct Member {
    std::weak_ptr<FabricPath> path;
    size_t local = 0;  // card
    size_t remote = 0;
    bool preferred = false;
    bool connecting = false;
  };

  void find_penalties(const Slice& slice) TE_REQUIRES(mutex_);
  // Whether a path is usable, or will be.
  bool hope() const TE_REQUIRES(mutex_);
  bool untried(size_t index) const TE_REQUIRES(mutex_);
  std::vector<std::shared_ptr<FabricPath>> to_connect(int64_t now) TE_REQUIRES(mutex_);

  const rails::MemoryRegions* const local_memory_;
  uint64_t remote_cards_ = 0;
  mutable Mutex mutex_;
  rails::PathQueue queue_ TE_GUARDED_BY(mutex_);
  std::vector<Member> members_ TE_GUARDED_BY(mutex_);
  std::vector<double> penalties_ TE_GUARDED_BY(mutex_);  // of the slice in question
  bool closed_ TE_GUARDED_BY(mutex_) = false;
};

}  // namespace te::fabric
