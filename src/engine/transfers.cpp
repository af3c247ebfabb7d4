// Batches as callers see them, and the timer. submit.cpp is the way down, complete.cpp the way up.
#include "engine/transfers.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/log.h"
#include "base/spin.h"
#include "engine/batch_event.h"
#include "engine/deferred.h"
#include "transport/transport.h"

namespace te {
namespace {

constexpr int64_t kTickMs = 10;
constexpr int64_t kEndingNs = 5'000;

// Made once: who polls hears it dozens of times in one transfer.
const Status& still_in_flight() {
  static const Status& status = *new Status(Code::kTimeout, "the batch is still in flight");
  return status;
}

// Threads that spin on the status of what is in flight must not keep the cores from those that move
// the bytes.
void give_way(TaskState state) {
  static constinit thread_local uint32_t looks = 0;
  if (state == TaskState::kPending && ++looks % kPollsPerYield == 0) std::this_thread::yield();
}

}  // namespace

Status no_batch(BatchId id) {
  return error(Code::kNotFound,
               "there is no batch {:#x}: it was freed, or never allocated by this engine", id);
}

Transfers::Transfers(const Config& config, Memory& memory, Segments& segments, Recovery& recovery,
                     Notify notify)
    : config_(config),
      memory_(memory),
      segments_(segments),
      recovery_(recovery),
      notify_(std::move(notify)),
      deferred_(std::make_unique<Deferred>(*this)) {}

Status Transfers::start() {
  Result<Thread> timer = Thread::start("te-timer", [this] { run_timer(); });
  if (!timer.ok()) return timer.status();
  timer_ = timer.take();
  return {};
}

Transfers::~Transfers() { finish_stop(); }

Result<BatchId> Transfers::allocate(uint64_t size, const BatchOptions& options) {
  Result<BatchId> id = table_.allocate(size);
  if (id.ok() && options.completion_queue) {
    Batch* batch = table_.find(*id);
    MutexLock lock(batch->mutex);
    batch->reports = true;
  }
  return id;
}

size_t Transfers::take_completions(std::span<Completion> completions) {
  std::array<BatchId, 64> ids;  // with one lock
  size_t count = 0;
  while (count < completions.size()) {
    const size_t most = std::min(ids.size(), completions.size() - count);
    const size_t taken = completions_.take({ids.data(), most});
    if (taken == 0) break;
    for (const BatchId id : std::span(ids).first(taken)) {
      const Result<TransferStatus> status = batch_status(id);
      if (status.ok()) completions[count++] = {id, *status};  // else another thread freed it
    }
  }
  return count;
}

Result<TransferStatus> Transfers::status(BatchId id, size_t task) const {
  const Batch* batch = table_.find(id);
  if (batch == nullptr) return no_batch(id);
  const TaskBlock* block = batch->block.load(std::memory_order_relaxed);
  const uint32_t size = batch->size.load(std::memory_order_relaxed);
  if (task >= size || task >= block->capacity) {
    if (!table_.is(*batch, id)) return no_batch(id);
    return error(Code::kOutOfRange, "task {} is outside the batch, which holds {}", task, size);
  }
  TransferStatus result;
  result.state = block->tasks[task].state.load(std::memory_order_acquire);
  result.transferred_bytes = block->tasks[task].transferred.load(std::memory_order_relaxed);
  // Not submitted: what is there may be the block's last user's.
  if (task >= batch->submitted.load(std::memory_order_acquire)) result = {};
  if (!table_.is(*batch, id)) return no_batch(id);
  give_way(result.state);
  return result;
}

Result<TransferStatus> Transfers::batch_status(BatchId id) const {
  const Batch* batch = table_.find(id);
  if (batch == nullptr) return no_batch(id);
  const TaskBlock* block = batch->block.load(std::memory_order_relaxed);
  const uint32_t count =
      std::min(batch->submitted.load(std::memory_order_acquire), block->capacity);
  TransferStatus result;
  if (count > 0) result.state = TaskState::kCompleted;
  bool pending = false;
  for (uint32_t i = 0; i < count; ++i) {
    const TaskState state = block->tasks[i].state.load(std::memory_order_acquire);
    result.transferred_bytes += block->tasks[i].transferred.load(std::memory_order_relaxed);
    pending = pending || !is_terminal(state);
    // FAILED is worst, then TIMEOUT, then CANCELLED.
    const auto badness = [](TaskState s) {
      return s == TaskState::kCompleted ? 0
                                        : static_cast<int>(s) + (s == TaskState::kFailed ? 10 : 0);
    };
    if (is_terminal(state) && badness(state) > badness(result.state)) result.state = state;
  }
  if (pending) result.state = TaskState::kPending;
  if (!table_.is(*batch, id)) return no_batch(id);
  give_way(result.state);
  return result;
}

Result<TaskError> Transfers::task_error(BatchId id, size_t task) const {
  Batch* batch = table_.find(id);
  if (batch == nullptr) return no_batch(id);
  MutexLock lock(batch->mutex);
  if (!table_.is(*batch, id)) return no_batch(id);
  if (task >= batch->size.load(std::memory_order_relaxed)) {
    return error(Code::kOutOfRange, "task {} is outside the batch, which holds {}", task,
                 batch->size.load(std::memory_order_relaxed));
  }
  if (task >= batch->submitted.load(std::memory_order_relaxed)) return TaskError{};
  const Task& found = batch->block.load(std::memory_order_relaxed)->tasks[task];
  const TaskState state = found.state.load(std::memory_order_acquire);
  if (!is_terminal(state) || state == TaskState::kCompleted) return TaskError{};
  for (size_t i = 0; i < batch->submissions_used; ++i) {
    const Submission& submission = *batch->submissions[i];
    if (task < submission.first_task || task >= submission.first_task + submission.task_count)
      continue;
    Status any;
    for (const auto& [index, text] : submission.errors) {
      if (index == task) return TaskError{text};
      any = text;
    }
    if (any.ok())
      any = error(found.failure.load(), "the task ended as {}", code_name(found.failure.load()));
    return TaskError{any};
  }
  return TaskError{};
}

Status Transfers::wait(BatchId id, std::optional<std::chrono::milliseconds> timeout) {
  Batch* batch = table_.find(id);
  if (batch == nullptr) return no_batch(id);
  if (batch->active.load(std::memory_order_acquire) == 0 && table_.is(*batch, id)) {
    return waited_for(id);
  }
  int64_t until = kNever;
  if (timeout) until = timeout->count() <= 0 ? 0 : deadline_after_ms(now_ns(), timeout->count());
  const CallCounter counted(waiting_);
  {
    MutexLock lock(batch->mutex);
    if (!table_.is(*batch, id)) return no_batch(id);
    wait_idle(*batch, id, until);
    const bool over = batch->active.load(std::memory_order_relaxed) == 0 || !table_.is(*batch, id);
    if (!over) return still_in_flight();
  }
  return waited_for(id);
}

// Where the engine ends, nobody can ask what became of the tasks.
Status Transfers::waited_for(BatchId id) const {
  if (!stopping_.load(std::memory_order_relaxed)) return {};
  const Result<TransferStatus> end = batch_status(id);
  if (!end.ok() || end->state != TaskState::kCancelled) return {};
  return Status(Code::kCancelled, "the engine was destroyed, which cancelled tasks of the batch");
}

void Transfers::wait_idle(Batch& batch, BatchId id, int64_t until_ns) {
  const auto over = [&] {
    return batch.active.load(std::memory_order_relaxed) == 0 || !table_.is(batch, id);
  };
  if (!over()) help(batch, 0);
  if (until_ns == 0) return;
  while (!over() && (until_ns == kNever || now_ns() < until_ns)) {
    if (help(batch, until_ns) || over()) continue;
    await_end(batch);
    if (over()) continue;
    if (until_ns == kNever) {
      batch.idle.wait(batch.mutex);
    } else {
      batch.idle.wait_until(batch.mutex, to_time_point(until_ns));
    }
  }
}

// Where another thread is just ending the batch, that is sooner over than this one is woken.
void Transfers::await_end(Batch& batch) {
  batch.mutex.unlock();
  const int64_t until = now_ns() + kEndingNs;
  while (batch.active.load(std::memory_order_relaxed) != 0 && now_ns() < until) {
    std::this_thread::yield();
  }
  batch.mutex.lock();
}

// Lends this thread to a transport that works for the batch, without the lock. False when none has
// anything to do for it.
bool Transfers::help(Batch& batch, int64_t until_ns) {
  std::shared_ptr<const Target> target;  // keeps the path
  for (size_t i = batch.submissions_used; i > 0 && !target; --i) {
    Submission& submission = *batch.submissions[i - 1];
    if (submission.tasks_left.load() != 0) target = submission.uses.last().target;
  }
  const bool may_sleep = until_ns != 0;
  if (!target || (may_sleep && batch.helper != nullptr)) return false;
  Waker& waker = Waker::of_this_thread();
  if (may_sleep && waker.descriptor() < 0) return false;
  if (may_sleep) batch.helper = &waker;
  batch.mutex.unlock();
  bool useful = false;
  for (const std::shared_ptr<Path>& path : target->paths) {
    if (path->inflight_bytes.load(std::memory_order_relaxed) == 0) continue;
    useful = path->transport.progress(*path, until_ns, waker);
    if (useful) break;
  }
  target.reset();
  batch.mutex.lock();
  if (may_sleep) batch.helper = nullptr;
  return useful;
}

Result<int> Transfers::event_fd(BatchId id) {
  Batch* batch = table_.find(id);
  if (batch == nullptr) return no_batch(id);
  MutexLock lock(batch->mutex);
  if (!table_.is(*batch, id) || batch->closing) return no_batch(id);
  if (!batch->event.valid()) {
    const bool idle = batch->active.load(std::memory_order_relaxed) == 0 &&
                      batch->submitted.load(std::memory_order_relaxed) > 0;
    batch->event = Fd(::eventfd(idle ? 1 : 0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!batch->event.valid()) {
      return error(Code::kResource, "cannot make an event descriptor: {}", errno_text(errno));
    }
  }
  return batch->event.get();
}

Status Transfers::free(BatchId id) {
  Batch* batch = table_.find(id);
  if (batch == nullptr) return no_batch(id);
  std::optional<CallCounter>
      counted;  // until the lock is let go, where there is something to wait for
  MutexLock lock(batch->mutex);
  if (!table_.is(*batch, id) || batch->closing) return no_batch(id);
  batch->closing = true;
  if (batch->active.load(std::memory_order_relaxed) != 0) {
    counted.emplace(waiting_);
    wait_idle(*batch, id, kNever);
  }
  if (batch->reports) completions_.remove(*batch);
  table_.release(*batch);
  return {};
}

Status Transfers::cancel(BatchId id) {
  Batch* batch = table_.find(id);
  if (batch == nullptr) return no_batch(id);
  std::vector<std::shared_ptr<const Target>> targets;
  {
    MutexLock lock(batch->mutex);
    if (!table_.is(*batch, id)) return no_batch(id);
    cancel_submissions(*batch);
    attend(*batch, targets);
  }
  sweep(targets);
  return {};
}

void Transfers::cancel_submissions(Batch& batch) {
  for (size_t i = 0; i < batch.submissions_used; ++i) {
    Submission& submission = *batch.submissions[i];
    Code expected = Code::kOk;
    if (submission.tasks_left.load() > 0) {
      submission.cancel.compare_exchange_strong(expected, Code::kCancelled);
    }
  }
}

// Ends what is overdue, and notes which paths hold slices that are wanted back.
void Transfers::attend(Batch& batch, std::vector<std::shared_ptr<const Target>>& targets) {
  const int64_t now = now_ns();
  int64_t next = kNever;
  for (size_t i = 0; i < batch.submissions_used; ++i) {
    Submission& submission = *batch.submissions[i];
    if (submission.tasks_left.load() == 0) continue;
    if (submission.deadline_ns <= now) {
      Code expected = Code::kOk;
      submission.cancel.compare_exchange_strong(expected, Code::kTimeout);
    }
    if (submission.cancel.load() == Code::kOk) {
      next = std::min(next, submission.deadline_ns);
      continue;
    }
    next = std::min(next, now + kTickMs * kNsPerMs);
    submission.uses.for_each([&](const Submission::Use& use) { targets.push_back(use.target); });
  }
  batch.deadline_ns.store(next, std::memory_order_relaxed);
}

void Transfers::sweep(const std::vector<std::shared_ptr<const Target>>& targets) {
  if (targets.empty()) return;
  std::vector<Path*> paths;
  for (const std::shared_ptr<const Target>& target : targets) {
    for (const std::shared_ptr<Path>& path : target->paths) paths.push_back(path.get());
  }
  std::sort(paths.begin(), paths.end());
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  recovery_.sweep();
  notify_.sweep();
  staging_->sweep();
  for (Path* path : paths) path->transport.sweep(*path);
  fences_->sweep();
}

// After accept(), whose lock keeps this look behind what it stored: either it sees that the timer
// sleeps, or the timer sees the batch.
void Transfers::wake_timer() {
  if (!timer_asleep_.load()) return;
  MutexLock lock(timer_mutex_);
  timer_changed_.notify_one();
}

bool Transfers::anything_under_way() const {
  bool any = false;
  table_.for_each_live([&any](const Batch& batch) {
    any = any || batch.active.load(std::memory_order_relaxed) != 0;
  });
  return any;
}

int64_t Transfers::look_at_deadlines() {
  const int64_t now = now_ns();
  int64_t next = kNever;
  std::vector<std::shared_ptr<const Target>> targets;
  table_.for_each_live([&](Batch& batch) {
    if (batch.deadline_ns.load(std::memory_order_relaxed) <= now) {
      MutexLock lock(batch.mutex);
      attend(batch, targets);
    }
    next = std::min(next, batch.deadline_ns.load(std::memory_order_relaxed));
  });
  sweep(targets);
  return next;
}

void Transfers::run_timer() {
  int64_t next = kNever;
  for (;;) {
    {
      MutexLock lock(timer_mutex_);
      timer_asleep_.store(true);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      while (!timer_stop_ && !anything_under_way()) timer_changed_.wait(timer_mutex_);
      timer_asleep_.store(false);
      const int64_t until = std::min(now_ns() + kTickMs * kNsPerMs, next);
      while (!timer_stop_ && now_ns() < until) {
        timer_changed_.wait_until(timer_mutex_, to_time_point(until));
      }
      if (timer_stop_) return;
    }
    next = look_at_deadlines();
  }
}

void Transfers::begin_stop() {
  stopping_.store(true);
  for (uint32_t inside = submitting_.load(); inside != 0; inside = submitting_.load()) {
    submitting_.wait(inside);
  }
  std::vector<std::shared_ptr<const Target>> targets;
  table_.for_each_live([&](Batch& batch) {
    MutexLock lock(batch.mutex);
    cancel_submissions(batch);
    attend(batch, targets);
  });
  sweep(targets);
  deferred_->stop();
  staging_->stop();
}

void Transfers::finish_stop() {
  for (uint32_t inside = waiting_.load(); inside != 0; inside = waiting_.load()) {
    waiting_.wait(inside);
  }
  {
    MutexLock lock(timer_mutex_);
    timer_stop_ = true;
    timer_changed_.notify_all();
  }
  timer_.join();
}

}  // namespace te
