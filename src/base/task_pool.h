// A few threads for work that blocks: connecting, resolving, delivering notifications. Never for
// data.
//
// The first is there from start() on; the others are made when needed, and where one cannot be made
// those that are there do the work, one task after the other.
#pragma once

#include <functional>
#include <memory>

#include "transfer_engine/status.h"

namespace te {

class TaskPool {
 public:
  explicit TaskPool(size_t max_threads);
  // Runs what was handed over, then ends.
  ~TaskPool() { stop(); }

  // Makes the first thread, so that run() cannot fail for want of one. kResource.
  Status start();
  // Any thread. Dropped (false) after stop(), or where there is no thread and none can be made. A
  // task that throws is over; that is logged.
  bool run(std::function<void()> task);
  // Adds a thread for tasks that wait while all threads are blocked, up to `most` threads in all.
  // It ends when no task waits. Any thread.
  void grow(size_t most);
  // Waits for the tasks under way and queued. Any thread but the pool's own.
  void stop();
  // Drops the tasks that have not begun, and waits for those under way until `until_ns`. What still
  // runs then goes on after the pool's end, so tasks must own what they use. Any thread but the
  // pool's own.
  void abandon(int64_t until_ns);

 private:
  struct State;  // which threads that were abandoned keep

  const std::shared_ptr<State> state_;
};

}  // namespace te
