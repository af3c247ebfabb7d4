// What threads without the progress lock leave for the one that holds it, or gets it next: slices,
// and commands for the progress thread.
//
// Threads: any. Its lock is a leaf.
#pragma once

#include <atomic>
#include <functional>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "core/batch.h"

namespace te {

class SubmissionQueue {
 public:
  using Command = std::function<void()>;

  // Appends them, and empties `slices`. False, and nothing is taken, after close().
  bool add(SliceList& slices) {
    {
      MutexLock lock(mutex_);
      if (closed_.load()) return false;
      slices_.append(slices);
    }
    waiting_.store(true);
    return true;
  }
  bool add(Command command) {
    MutexLock lock(mutex_);
    if (closed_.load()) return false;
    commands_.push_back(std::move(command));
    return true;
  }

  // Whether slices came since they were taken.
  bool waiting() const { return waiting_.load(); }
  SliceList take() {
    waiting_.store(false);
    SliceList slices;
    MutexLock lock(mutex_);
    slices.append(slices_);
    return slices;
  }
  // Into `commands`, which is empty.
  void take(std::vector<Command>& commands) {
    MutexLock lock(mutex_);
    commands.swap(commands_);
  }

  // With the progress lock, so that a thread that has it may rely on closed(). Returns the commands
  // that nobody will run, with what they keep alive.
  std::vector<Command> close() {
    MutexLock lock(mutex_);
    closed_.store(true);
    return std::exchange(commands_, {});
  }
  bool closed() const { return closed_.load(); }

 private:
  Mutex mutex_;
  SliceList slices_ TE_GUARDED_BY(mutex_);
  std::vector<Command> commands_ TE_GUARDED_BY(mutex_);
  std::atomic<bool> closed_{false};
  std::atomic<bool> waiting_{false};
};

}  // namespace te
