#include "engine/completion_queue.h"

#include <sys/eventfd.h>

#include <cerrno>

#include "base/log.h"
#include "engine/batch_event.h"

namespace te {

void CompletionQueue::push(Batch& batch) {
  MutexLock lock(mutex_);
  QueuePlace& place = batch.place;
  if (place.queued) return;
  place = {.queued = true, .id = BatchTable::id_of(batch), .before = last_, .behind = nullptr};
  (last_ == nullptr ? first_ : last_->place.behind) = &batch;
  if (last_ == nullptr) set_readable(event_, true);
  last_ = &batch;
}

void CompletionQueue::remove(Batch& batch) {
  MutexLock lock(mutex_);
  if (batch.place.queued) unlink(batch);
}

void CompletionQueue::unlink(Batch& batch) {
  const QueuePlace place = std::exchange(batch.place, {});
  (place.before == nullptr ? first_ : place.before->place.behind) = place.behind;
  (place.behind == nullptr ? last_ : place.behind->place.before) = place.before;
  if (first_ == nullptr) set_readable(event_, false);
}

size_t CompletionQueue::take(std::span<BatchId> ids) {
  MutexLock lock(mutex_);
  size_t count = 0;
  while (count < ids.size() && first_ != nullptr) {
    ids[count++] = first_->place.id;
    unlink(*first_);
  }
  return count;
}

Result<int> CompletionQueue::event_fd() {
  MutexLock lock(mutex_);
  if (!event_.valid()) {
    event_ = Fd(::eventfd(first_ != nullptr ? 1 : 0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!event_.valid()) {
      return error(Code::kResource, "cannot make an event descriptor: {}", errno_text(errno));
    }
  }
  return event_.get();
}

}  // namespace te
