// A few threads, made when needed, for work that blocks: connecting, resolving,
// delivering notifications. Never for data.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"

namespace te {

class TaskPool {
 public:
  explicit TaskPool(size_t max_threads) : max_threads_(max_threads) {}
  // Runs what was handed over, then ends.
  ~TaskPool() { stop(); }

  // Any thread. Dropped (false) after stop().
  bool run(std::function<void()> task);
  // Waits for the tasks under way and queued. Any thread but the pool's own.
  void stop();

 private:
  void work();

  const size_t max_threads_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> tasks_ TE_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ TE_GUARDED_BY(mutex_);
  size_t idle_ TE_GUARDED_BY(mutex_) = 0;
  bool stopping_ TE_GUARDED_BY(mutex_) = false;
};

}  // namespace te
