#include "base/task_pool.h"

#include <deque>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/thread.h"

namespace te {

struct TaskPool::State {
  explicit State(size_t max) : max_threads(max) {}

  // `self` owns this.
  Status add_thread(const std::shared_ptr<State>& self) TE_REQUIRES(mutex);
  // Of a thread; `surplus`: it ends when no task waits.
  void work(bool surplus) TE_EXCLUDES(mutex);

  const size_t max_threads;
  Mutex mutex{LockRank::kLoop};
  CondVar changed;
  CondVar ended;  // a thread has
  std::deque<std::function<void()>> tasks TE_GUARDED_BY(mutex);
  std::vector<Thread> threads TE_GUARDED_BY(mutex);
  size_t idle TE_GUARDED_BY(mutex) = 0;
  size_t alive TE_GUARDED_BY(mutex) = 0;    // all threads
  size_t surplus TE_GUARDED_BY(mutex) = 0;  // of them, by grow()
  bool stopping TE_GUARDED_BY(mutex) = false;
  bool abandoned TE_GUARDED_BY(mutex) = false;
};

TaskPool::TaskPool(size_t max_threads) : state_(std::make_shared<State>(max_threads)) {}

Status TaskPool::State::add_thread(const std::shared_ptr<State>& self) {
  threads.reserve(max_threads);
  Result<Thread> thread = Thread::start("te-pool", [self] { self->work(false); });
  if (!thread.ok()) return thread.status();
  threads.push_back(thread.take());
  ++alive;
  return {};
}

Status TaskPool::start() {
  State& of = *state_;
  MutexLock lock(of.mutex);
  return of.threads.empty() && !of.stopping ? of.add_thread(state_) : Status();
}

bool TaskPool::run(std::function<void()> task) {
  State& of = *state_;
  MutexLock lock(of.mutex);
  if (of.stopping) return false;
  of.tasks.push_back(std::move(task));
  if (of.tasks.size() > of.idle && of.threads.size() < of.max_threads) {
    const Status status = of.add_thread(state_);
    if (!status.ok() && of.threads.empty()) {
      of.tasks.pop_back();
      log_error("{}", status.message());
      return false;
    }
  }
  of.changed.notify_one();
  return true;
}

void TaskPool::grow(size_t most) {
  State& of = *state_;
  MutexLock lock(of.mutex);
  // Those that are idle take one each, but perhaps not at once on a busy machine.
  if (of.stopping || of.tasks.size() <= of.idle || of.alive >= most) return;
  Result<Thread> thread = Thread::start("te-pool", [state = state_] { state->work(true); });
  if (!thread.ok()) return;  // those that are there do the work
  thread->detach();
  ++of.alive;
  ++of.surplus;
}

void TaskPool::stop() {
  State& of = *state_;
  std::vector<Thread> threads;
  {
    MutexLock lock(of.mutex);
    of.stopping = true;
    if (of.abandoned) return;
    threads.swap(of.threads);
    of.changed.notify_all();
    while (of.surplus > 0) of.ended.wait(of.mutex);
  }
  for (Thread& thread : threads) thread.join();
}

void TaskPool::abandon(int64_t until_ns) {
  State& of = *state_;
  std::deque<std::function<void()>> dropped;  // die after the lock
  std::vector<Thread> threads;
  bool left = false;
  {
    MutexLock lock(of.mutex);
    of.stopping = true;
    dropped.swap(of.tasks);
    of.changed.notify_all();
    while (of.alive > 0 && now_ns() < until_ns) {
      of.ended.wait_until(of.mutex, to_time_point(until_ns));
    }
    left = of.alive > 0;
    of.abandoned = of.abandoned || left;
    threads.swap(of.threads);
  }
  for (Thread& thread : threads) {
    if (left) {
      thread.detach();
    } else {
      thread.join();
    }
  }
}

void TaskPool::State::work(bool is_surplus) {
  MutexLock lock(mutex);
  for (;;) {
    while (tasks.empty()) {
      if (stopping || is_surplus) {
        --alive;
        if (is_surplus) --surplus;
        ended.notify_all();
        return;
      }
      ++idle;
      changed.wait(mutex);
      --idle;
    }
    std::function<void()> task = std::move(tasks.front());
    tasks.pop_front();
    mutex.unlock();
    run_guarded(task);
    task = nullptr;  // what it held may come back here when it is destroyed
    mutex.lock();
  }
}

}  // namespace te
