// Slices that this machine's cores copy: a queue, a few threads, and whoever lends theirs.
//
// Who posts helps: a small copy is carried out by the thread that asked for it, without a
// hand-over. The pool's own threads are woken where more is queued than that thread does in some
// microseconds, and where a helper leaves something behind. Much at once is distributed in as many
// parts as there are threads, and each thread stays in one: two that copy neighbouring pages across
// memory wait for each other at the kernel's page tables.
//
// Threads: any.
#pragma once

#include <functional>
#include <vector>

#include "base/mutex.h"
#include "base/thread.h"
#include "core/batch.h"
#include "transport/copy_bytes.h"
#include "transport/copy_crew.h"
#include "transport/copy_stream.h"
#include "transport/copy_ways.h"
#include "transport/transport.h"

namespace te {

class CopyPool {
 public:
  // The slices of one run: at most this many, of one path and direction.
  static constexpr size_t kMaxRun = 64;
  // Of large requests, so that two threads that share one end within some microseconds.
  static constexpr uint64_t kSliceBytes = 256 << 10;
  // Copies the slices, linked by `next`, and hands each to done(). By several threads at once.
  using Copy = std::function<void(Slice* run, CopyWay way)>;

  // At most `threads` copy at once, but for threads that are lent.
  CopyPool(TransportHost& host, uint64_t threads, Copy copy);
  ~CopyPool() { stop(); }
  // Makes the threads. kResource when there is not even one for it; with fewer than were wanted it
  // is slower.
  Status start();

  // Whoever posts calls help() next.
  void post(SliceList slices);
  // Copies what is little enough not to be worth the queue, and is alone: a run of one path and
  // direction. False: it did not.
  bool copy_at_once(SliceList run);
  // Copies one run, of any path; false when nothing is queued.
  bool help();
  // The same; but when nothing is queued while others copy for this path, it waits some
  // microseconds for the end of that, which is sooner than a sleeping thread is woken.
  bool help_and_linger(const Path& path);

  // Keeps a run aside until resume() of its path.
  void park(Slice* run);
  void resume(const Path& path);

  // What sweep(), reset() and stop() of a transport do.
  void sweep();
  void reset(const Path& path);
  void stop();

  uint64_t load_bytes() const { return load_bytes_.load(std::memory_order_relaxed); }

 private:
  struct Part {
    SliceList queue;
    size_t takers = 0;  // threads that copy what they took here
  };
  struct Run {
    Slice* first = nullptr;
    Part* part = nullptr;
    uint64_t bytes = 0;
    bool streaming = false;
    CopyWay way = CopyWay::kMemcpy;
    bool own = false;   // taken by a thread of the pool
    bool wake = false;  // one of the threads, once the lock is free
  };

  void work();
  void linger();
  void add(SliceList chain, uint64_t bytes) TE_REQUIRES(mutex_);
  Run take(bool own) TE_REQUIRES(mutex_);
  Part& next_part() TE_REQUIRES(mutex_);
  // How long it took, where that is worth knowing.
  int64_t carry_out(const Run& run);
  void ended(const Run& run, int64_t took_ns) TE_REQUIRES(mutex_);
  // Takes out of the lists what `wanted` holds for, and returns it as `code`.
  template <typename Wanted>
  void take_back(Code code, Wanted&& wanted);

  TransportHost& host_;
  const Copy copy_;
  std::atomic<uint64_t> load_bytes_{0};  // changed under the mutex
  Mutex mutex_;
  CondVar changed_;  // for the pool's threads
  CondVar quiet_;    // for stop()
  std::vector<Part> parts_ TE_GUARDED_BY(mutex_);
  SliceList parked_ TE_GUARDED_BY(mutex_);
  size_t queued_ TE_GUARDED_BY(mutex_) = 0;   // slices
  std::atomic<uint64_t> queued_bytes_{0};     // changed under the mutex
  bool fresh_ TE_GUARDED_BY(mutex_) = false;  // nothing was taken since the last post
  CopyStream stream_ TE_GUARDED_BY(mutex_);
  CopyWays ways_ TE_GUARDED_BY(mutex_);
  CopyCrew crew_ TE_GUARDED_BY(mutex_);
  std::atomic<bool> stopping_{false};  // changed under the mutex
  std::vector<Thread> threads_;
};

}  // namespace te
