#include "engine/deferred.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/log.h"

namespace te {
namespace {

// The driver is asked again after an eighth of the time that the work has taken so far: so a
// submission begins at most so much later than it could. The limits are those of a query, 2 us,
// and of a cancelled task's end.
constexpr int64_t kShare = 8;
constexpr int64_t kShortestNs = 20'000;
constexpr int64_t kLongestNs = kNsPerMs;

}  // namespace

Status Transfers::Deferred::start() {
  MutexLock lock(mutex_);
  if (thread_.joinable()) return {};
  Result<Thread> thread = Thread::start("te-deferred", [this] { run(); });
  if (!thread.ok()) return thread.status();
  thread_ = thread.take();
  return {};
}

void Transfers::Deferred::add(Plan plan, std::unique_ptr<DeviceWork> work) {
  std::list<Entry> fresh;
  fresh.push_back({std::move(plan), std::move(work), now_ns()});
  MutexLock lock(mutex_);
  added_.splice(added_.end(), fresh);
  changed_.notify_one();
}

void Transfers::Deferred::stop() {
  Thread thread;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    thread = std::move(thread_);
    changed_.notify_one();
  }
  thread.join();
}

void Transfers::Deferred::run() {
  while (wait()) held_.remove_if([this](Entry& each) { return look(each); });
}

bool Transfers::Deferred::wait() {
  int64_t until = kNever;
  const int64_t now = now_ns();
  for (const Entry& each : held_) {
    until =
        std::min(until, now + std::clamp((now - each.since_ns) / kShare, kShortestNs, kLongestNs));
  }
  MutexLock lock(mutex_);
  while (added_.empty() && (held_.empty() ? !stopping_ : now_ns() < until)) {
    if (held_.empty()) {
      changed_.wait(mutex_);
    } else {
      changed_.wait_until(mutex_, to_time_point(until));
    }
  }
  held_.splice(held_.end(), added_);
  return !held_.empty();
}

bool Transfers::Deferred::look(Entry& entry) {
  Plan& plan = entry.plan;
  const Code cancel = plan.submission->cancel.load();
  if (cancel != Code::kOk) {
    entry.work.reset();
    transfers_.drop(plan, Code::kCancelled,
                    cancel == Code::kTimeout
                        ? Status(Code::kTimeout,
                                 "the work of the GPU that the submission follows (after_event, "
                                 "after_stream) had not ended before the deadline")
                        : Status(Code::kCancelled, "the batch was cancelled"));
    return true;
  }
  const Result<bool> ended = entry.work->has_ended();
  if (ended.ok() && !*ended) return false;
  entry.work.reset();
  if (!ended.ok()) {
    transfers_.drop(plan, ended.code(),
                    ended.status().with_context(
                        "the work of the GPU that the submission follows failed, so nothing was "
                        "transferred"));
    return true;
  }
  Batch& batch = *plan.submission->batch;
  transfers_.post(plan);
  MutexLock lock(batch.mutex);
  batch.idle.notify_all();  // whoever waits can help now
  return true;
}

Status Transfers::find_work(const SubmitOptions& options, std::unique_ptr<DeviceWork>* work) {
  Result<std::unique_ptr<DeviceWork>> found = follow(options.after_event, options.after_stream);
  if (!found.ok()) return found.status();
  const Result<bool> ended = (*found)->has_ended();
  if (!ended.ok()) return ended.status();
  if (*ended) return {};
  *work = found.take();
  return deferred_->start();
}

void Transfers::post_after(Plan plan, std::unique_ptr<DeviceWork> work) {
  wake_timer();
  deferred_->add(std::move(plan), std::move(work));
}

// Nothing of it was posted, so no other thread ends a task of it.
void Transfers::drop(Plan& plan, Code code, const Status& why) {
  const auto drop_all = [&](SliceList slices) {
    while (!slices.empty()) drop(*slices.pop()->task, code, why);
  };
  plan.posted.for_each([&](const Posted& each) { drop_all(each.slices); });
  drop_all(plan.unknown_slices);
  for (Task* task : plan.unknown) drop(*task, code, why);
  for (const StagedRequest& request : plan.staged) drop(*request.range.slice->task, code, why);
  for (Task* task : plan.empty) {
    task->slices_left.store(1, std::memory_order_relaxed);
    drop(*task, code, why);
  }
  one_less(*plan.submission);
}

// One slice of the task.
void Transfers::drop(Task& task, Code code, const Status& why) {
  if (task.failure.load(std::memory_order_relaxed) == Code::kOk) note_error(task, why);
  slice_ended(&task.first, code);
}

}  // namespace te
