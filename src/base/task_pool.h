// A few threads for work that blocks: connecting, resolving, delivering notifications. Never for
// data.
//
// The first is there from start() on; the others are made when needed, and where one cannot be made
// those that are there do the work, one task after the other.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/thread.h"

namespace te {

class TaskPool {
 public:
  explicit TaskPool(size_t max_threads) : max_threads_(max_threads) {}
  // Runs what was handed over, then ends.
  ~TaskPool() { stop(); }

  // Makes the first thread, so that run() cannot fail for want of one. kResource.
  Status start();
  // Any thread. Dropped (false) after stop(), or where there is no thread and none can be made. A
  // task that throws is over; that is logged.
  bool run(std::function<void()> task);
  // Waits for the tasks under way and queued. Any thread but the pool's own.
  void stop();

 private:
  void work();
  Status add_thread() TE_REQUIRES(mutex_);

  const size_t max_threads_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> tasks_ TE_GUARDED_BY(mutex_);
  std::vector<Thread> threads_ TE_GUARDED_BY(mutex_);
  size_t idle_ TE_GUARDED_BY(mutex_) = 0;
  bool stopping_ TE_GUARDED_BY(mutex_) = false;
};

}  // namespace te
