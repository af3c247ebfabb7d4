// The way up: slices come back, tasks and submissions end.
#include "base/counts.h"
#include "base/log.h"
#include "engine/batch_event.h"
#include "engine/transfers.h"

namespace te {
namespace {

// Why a slice failed that nobody will try again.
Status refusal(const Slice& slice, Code code) {
  const bool write = slice.opcode == Opcode::kWrite;
  const std::string_view transport = slice.path->transport.name();
  if (code == Code::kInvalidArgument) {
    return error(code,
                 "{}: the local memory at {:#x} ({} bytes) cannot be {}: was it unmapped or "
                 "protected, or its file truncated?",
                 transport, reinterpret_cast<uint64_t>(slice.local), slice.length,
                 write ? "read" : "written");
  }
  if (code == Code::kPermission) {
    return error(
        code,
        "{}: the memory of the target at {}, address {:#x} ({} bytes), cannot be {}: its "
        "buffer is not registered for that, or its tls_policy does not allow it, or was it "
        "unmapped or protected, or its file truncated?",
        transport, slice.path->remote_address, slice.remote_address, slice.length,
        write ? "written" : "read");
  }
  return error(code, "{}: the target at {} refused the request: {}", transport,
               slice.path->remote_address, code_name(code));
}

}  // namespace

// Whether the target's memory is on a device, as far as is known now.
bool Transfers::is_for_device(const Slice& slice) {
  const std::shared_ptr<const Target> target = segment_of(*slice.task)->target();
  uint64_t address = 0;
  const Result<size_t> buffer = target->descriptor.resolve(
      {slice.remote_address, slice.length, target_rights(slice.opcode), Addressing::kAddress},
      &address);
  return buffer.ok() && target->descriptor.buffer(*buffer).kind != MemoryKind::kHost;
}

// The same where a driver copies: what it says, unless both ends are in host memory. Of a target in
// another process the path alone knows.
Status Transfers::device_refusal(const Slice& slice, Code code) {
  const bool same_engine = slice.path->transport.capabilities().same_engine_only;
  const bool local = code == Code::kInvalidArgument;
  const auto here = reinterpret_cast<uint64_t>(slice.local);
  const std::shared_ptr<const DeviceMemory> ours = memory_.device_at(here);
  const std::shared_ptr<const DeviceMemory> theirs =
      same_engine ? memory_.device_at(slice.remote_address) : nullptr;
  const bool on_device = ours != nullptr || theirs != nullptr;
  if (!on_device && !is_for_device(slice)) return {};
  const uint64_t address = local ? here : slice.remote_address;
  const std::shared_ptr<const DeviceMemory>& device = local ? ours : theirs;
  Status why;
  if (device) why = device->check(reinterpret_cast<const std::byte*>(address), slice.length);
  if (why.ok() && (device || !same_engine)) why = slice.path->last_error();
  if (why.ok()) return {};
  return error(code, "{}: {} bytes of {} memory at {:#x} cannot be copied: {}",
               slice.path->transport.name(), slice.length, local ? "local" : "the target's",
               address, why.message());
}

void Transfers::done(Slice* slice, Code code) {
  slice->path->inflight_bytes.fetch_sub(slice->length, std::memory_order_relaxed);
  if (code == Code::kOk) {
    slice->path->completed_bytes.fetch_add(slice->length, std::memory_order_relaxed);
    slice->path->completed_slices.fetch_add(1, std::memory_order_relaxed);
    Task& task = *slice->task;
    if (task.staged) {
      slice->path->staged_bytes.fetch_add(slice->length, std::memory_order_relaxed);
    }
    if (task.slices_left.load(std::memory_order_acquire) == 1) {
      grow(task.transferred, slice->length);  // nobody else is left
    } else {
      task.transferred.fetch_add(slice->length, std::memory_order_relaxed);
    }
    return slice_ended(slice, code);
  }
  // One whose task was cancelled, or overdue, before the path got to it says nothing about the
  // path.
  const bool unwanted = code == Code::kCancelled && slice->cancelled();
  if (!unwanted) slice->path->failed_slices.fetch_add(1, std::memory_order_relaxed);
  const bool again = code == Code::kUnavailable || code == Code::kStale;
  const bool moved =
      code == Code::kCancelled && !slice->cancelled();  // its transport was taken away
  if ((again || moved) && !slice->cancelled()) {
    return recovery_.add(segment_of(*slice->task), slice, code);
  }
  if (slice->cancelled()) {
    const Path& path = *slice->path;
    note_cancelled(*slice, path.state.load() == PathState::kReady ? Status() : path.last_error());
    return slice_ended(slice, Code::kCancelled);
  }
  Status why;
  const bool copied = slice->path->transport.capabilities().within_host;
  if (copied && code != Code::kOutOfRange) why = device_refusal(*slice, code);
  note_error(*slice->task, why.ok() ? refusal(*slice, code) : std::move(why));
  slice_ended(slice, code);
}

void Transfers::end(Slice* slice, Code code, const Status& why) {
  if (slice->cancelled()) {
    note_cancelled(*slice, why);
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

void Transfers::note_cancelled(const Slice& slice, const Status& last) {
  const Submission& submission = *slice.task->submission;
  if (submission.cancel.load() != Code::kTimeout) {
    return note_error(*slice.task, Status(Code::kCancelled, "the batch was cancelled"));
  }
  const std::string who = slice.path == nullptr
                              ? fmt::format("segment '{}'", slice.task->segment->name)
                              : fmt::format("{}: the target at {}", slice.path->transport.name(),
                                            slice.path->remote_address);
  // A lack of descriptors or memory here is not the target's silence.
  if (last.code() == Code::kResource) {
    return note_error(*slice.task, error(Code::kTimeout, "{} was not asked before the deadline: {}",
                                         who, last.message()));
  }
  note_error(*slice.task, error(Code::kTimeout, "{} did not answer before the deadline{}{}", who,
                                last.ok() ? "" : "; ", last.message()));
}

std::shared_ptr<Segment> Transfers::segment_of(const Task& task) {
  const Submission& submission = *task.submission;
  std::shared_ptr<Segment> segment;
  MutexLock lock(submission.batch->mutex);
  submission.uses.for_each([&](const Submission::Use& use) {
    if (use.segment.get() == task.segment) segment = use.segment;
  });
  return segment;
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
  deliver(submission);
}

void Transfers::deliver(Submission& submission) {
  const TaskBlock* block = submission.batch->block.load(std::memory_order_relaxed);
  const Task* tasks = &block->tasks[submission.first_task];
  const Task& carrier = tasks[submission.task_count - 1];
  // It says that the bytes are there, so it is for who has them.
  uint64_t instance = 0;
  bool one_run = true;
  for (uint32_t i = 0; i < submission.task_count; ++i) {
    if (tasks[i].length == 0) continue;
    one_run = one_run && (instance == 0 || tasks[i].instance == instance);
    instance = tasks[i].instance;
  }
  if (!one_run) {
    return delivered(submission,
                     error(Code::kUnavailable, "'{}' restarted in between", carrier.segment->name));
  }
  if (submission.cancel.load() != Code::kOk) {
    return delivered(submission, Status(Code::kCancelled, "it was not sent any more"));
  }
  notify_.send(submission, segment_of(carrier), instance,
               [this, &submission](const Status& status) { delivered(submission, status); });
}

void Transfers::delivered(Submission& submission, const Status& status) {
  const TaskBlock* block = submission.batch->block.load(std::memory_order_relaxed);
  Task& carrier = block->tasks[submission.first_task + submission.task_count - 1];
  if (!status.ok()) {
    const bool wanted_back = status.code() == Code::kCancelled || status.code() == Code::kTimeout;
    carrier.failure.store(wanted_back ? Code::kCancelled : Code::kUnavailable);
    note_error(carrier, status.with_context("the bytes are in place, but the notification is not"));
  }
  finish_task(carrier);
}

// What takes this much longer than it may has not completed, be the bytes in place or not. The
// timer may not have looked: where the process stood still, answers are read at the same time.
bool Transfers::long_overdue(const Submission& submission, Code cancel) {
  constexpr int64_t kMarginNs = 40 * kNsPerMs;
  Batch& batch = *submission.batch;
  const int64_t now = now_at_tick_ns();
  const int64_t first_ns = batch.deadline_ns.load(std::memory_order_relaxed);
  if (cancel == Code::kOk && now - first_ns <= kMarginNs) return false;
  MutexLock lock(batch.mutex);
  return now - submission.deadline_ns > kMarginNs;
}

void Transfers::finish_task(Task& task) {
  Submission& submission = *task.submission;
  const Code failure = task.failure.load();
  const Code cancel = submission.cancel.load();
  TaskState state = TaskState::kCompleted;
  if (failure == Code::kOk && long_overdue(submission, cancel)) {
    note_error(task, Status(Code::kTimeout, "it ended after its deadline"));
    state = TaskState::kTimeout;
  }
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
  submission.list_slices.clear();
  shrink(batch.active, 1, std::memory_order_release);
  if (batch.active.load(std::memory_order_relaxed) > 0) return;
  set_readable(batch.event, true);
  if (batch.reports && !batch.closing) completions_.push(batch);
  batch.idle.notify_all();
  if (batch.helper != nullptr && batch.helper->of_another_thread()) batch.helper->wake();
}

}  // namespace te
