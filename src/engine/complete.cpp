// The way up: slices come back, tasks and submissions end.
#include "base/counts.h"
#include "base/log.h"
#include "engine/batch_event.h"
#include "engine/transfers.h"

namespace te {

void Transfers::done(Slice* slice, Code code) {
  slice->path->inflight_bytes.fetch_sub(slice->length, std::memory_order_relaxed);
  if (code == Code::kOk) {
    slice->path->completed_bytes.fetch_add(slice->length, std::memory_order_relaxed);
    slice->path->completed_slices.fetch_add(1, std::memory_order_relaxed);
    Task& task = *slice->task;
    if (task.slices_left.load(std::memory_order_acquire) == 1) {
      grow(task.transferred, slice->length);  // nobody else is left
    } else {
      task.transferred.fetch_add(slice->length, std::memory_order_relaxed);
    }
    return slice_ended(slice, code);
  }
  slice->path->failed_slices.fetch_add(1, std::memory_order_relaxed);
  const bool again = code == Code::kUnavailable || code == Code::kStale;
  const bool moved =
      code == Code::kCancelled && !slice->cancelled();  // its transport was taken away
  if ((again || moved) && !slice->cancelled()) {
    std::shared_ptr<Segment> segment;
    Submission& submission = *slice->task->submission;
    {
      MutexLock lock(submission.batch->mutex);
      submission.uses.for_each([&](const Submission::Use& use) {
        if (use.segment.get() == slice->task->segment) segment = use.segment;
      });
    }
    return recovery_.add(std::move(segment), slice, code);
  }
  if (slice->cancelled()) {
    note_cancelled(*slice);
    return slice_ended(slice, Code::kCancelled);
  }
  if (code == Code::kInvalidArgument) {
    note_error(*slice->task,
               error(code,
                     "{}: the local memory at {:#x} cannot be touched: was it "
                     "unmapped while registered?",
                     slice->path->transport.name(), reinterpret_cast<uint64_t>(slice->local)));
    return slice_ended(slice, code);
  }
  note_error(*slice->task,
             error(code, "{}: the target at {} refused the request: {}",
                   slice->path->transport.name(), slice->path->remote_address, code_name(code)));
  slice_ended(slice, code);
}

void Transfers::end(Slice* slice, Code code, const Status& why) {
  if (slice->cancelled()) {
    note_cancelled(*slice);
    code = Code::kCancelled;
  } else {
    note_error(*slice->task, why);
  }
  slice_ended(slice, code);
}

void Transfers::note_error(Task& task, Status why) {
  Submission& submission = *task.submission;
  const TaskBlock* block = submission.batch->block.load(std::memory_order_relaxed);
  const auto index = static_cast<uint32_t>(&task - block->tasks.get());
  constexpr size_t kMaxTexts = 64;  // of one submission: the rest failed for the same reasons
  MutexLock lock(submission.batch->mutex);
  if (submission.errors.size() < kMaxTexts) submission.errors.emplace_back(index, std::move(why));
}

void Transfers::note_cancelled(const Slice& slice) {
  const Submission& submission = *slice.task->submission;
  if (submission.cancel.load() != Code::kTimeout) {
    return note_error(*slice.task, Status(Code::kCancelled, "the batch was cancelled"));
  }
  const Path& path = *slice.path;
  const Status last = path.state.load() == PathState::kReady ? Status() : path.last_error();
  note_error(
      *slice.task,
      error(Code::kTimeout, "{}: the target at {} did not answer before the deadline{}{}",
            path.transport.name(), path.remote_address, last.ok() ? "" : "; ", last.message()));
}

void Transfers::slice_ended(Slice* slice, Code code) {
  Task& task = *slice->task;
  if (code != Code::kOk) {
    Code expected = Code::kOk;
    task.failure.compare_exchange_strong(expected, code);
  }
  if (take_last(task.slices_left)) data_done(task);
}

// Every byte of the task came to its end. The task that carries a notification goes on until that
// is delivered.
void Transfers::data_done(Task& task) {
  Submission& submission = *task.submission;
  if (!submission.notification) return finish_task(task);
  if (task.failure.load() != Code::kOk) submission.failed.store(true);
  const TaskBlock* block = submission.batch->block.load(std::memory_order_relaxed);
  Task& carrier = block->tasks[submission.first_task + submission.task_count - 1];
  if (&task != &carrier) finish_task(task);
  if (submission.data_left.fetch_sub(1) != 1) return;
  if (submission.failed.load()) return finish_task(carrier);
  if (pool_.run([this, &submission] { deliver(submission); })) return;
  carrier.failure.store(Code::kCancelled);
  finish_task(carrier);
}

void Transfers::deliver(Submission& submission) {
  const TaskBlock* block = submission.batch->block.load(std::memory_order_relaxed);
  Task& carrier = block->tasks[submission.first_task + submission.task_count - 1];
  std::shared_ptr<Segment> segment;
  {
    MutexLock lock(submission.batch->mutex);
    submission.uses.for_each([&](const Submission::Use& use) {
      if (use.segment.get() == carrier.segment) segment = use.segment;
    });
  }
  const Status status = notify_(segment, *submission.notification);
  if (!status.ok()) {
    carrier.failure.store(status.code() == Code::kCancelled ? Code::kCancelled
                                                            : Code::kUnavailable);
    note_error(carrier, status.with_context("the bytes are in place, but the notification is not"));
  }
  finish_task(carrier);
}

void Transfers::finish_task(Task& task) {
  Submission& submission = *task.submission;
  const Code failure = task.failure.load();
  const Code cancel = submission.cancel.load();
  TaskState state = TaskState::kCompleted;
  if (failure != Code::kOk) {
    state = TaskState::kFailed;
    if (failure == Code::kCancelled) {
      state = cancel == Code::kTimeout ? TaskState::kTimeout : TaskState::kCancelled;
    }
  }
  task.state.store(state, std::memory_order_release);
  one_less(submission);
}

void Transfers::one_less(Submission& submission) {
  if (take_last(submission.tasks_left)) finish_submission(submission);
}

void Transfers::finish_submission(Submission& submission) {
  submission.release_pins();
  Batch& batch = *submission.batch;
  // What they hold is closed without the lock.
  MostlyOne<Submission::Use> uses;
  MutexLock lock(batch.mutex);
  uses = submission.uses.take();
  submission.extra_slices.clear();
  shrink(batch.active, 1, std::memory_order_release);
  if (batch.active.load(std::memory_order_relaxed) > 0) return;
  set_readable(batch.event, true);
  batch.idle.notify_all();
  if (batch.helper != nullptr && batch.helper->of_another_thread()) batch.helper->wake();
}

}  // namespace te
