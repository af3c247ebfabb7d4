// The batches that ended and wait to be taken, oldest first: of those that were allocated for it.
// A batch is in the queue at most once. It leaves when it is taken, used again, or freed.
//
// Threads: any. Takes no memory.
#pragma once

#include <cstddef>
#include <span>

#include "base/fd.h"
#include "base/mutex.h"
#include "core/batch.h"

namespace te {

class CompletionQueue {
 public:
  // The batch became idle. With its mutex.
  void push(Batch& batch) TE_REQUIRES(batch.mutex);
  // It is used again, or freed. With its mutex.
  void remove(Batch& batch) TE_REQUIRES(batch.mutex);
  // How many it filled in.
  size_t take(std::span<BatchId> ids);
  // Readable while there is something to take; the queue's. kResource.
  Result<int> event_fd();

 private:
  void unlink(Batch& batch) TE_REQUIRES(mutex_);

  Mutex mutex_;  // a leaf
  Batch* first_ TE_GUARDED_BY(mutex_) = nullptr;
  Batch* last_ TE_GUARDED_BY(mutex_) = nullptr;
  Fd event_ TE_GUARDED_BY(mutex_);
};

}  // namespace te
