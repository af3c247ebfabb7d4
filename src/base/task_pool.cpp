#include "base/task_pool.h"

namespace te {

Status TaskPool::add_thread() {
  threads_.reserve(max_threads_);
  Result<Thread> thread = Thread::start("te-pool", [this] { work(); });
  if (!thread.ok()) return thread.status();
  threads_.push_back(thread.take());
  return {};
}

Status TaskPool::start() {
  MutexLock lock(mutex_);
  return threads_.empty() && !stopping_ ? add_thread() : Status();
}

bool TaskPool::run(std::function<void()> task) {
  MutexLock lock(mutex_);
  if (stopping_) return false;
  tasks_.push_back(std::move(task));
  if (tasks_.size() > idle_ && threads_.size() < max_threads_) {
    const Status status = add_thread();
    if (!status.ok() && threads_.empty()) {
      tasks_.pop_back();
      log_error("{}", status.message());
      return false;
    }
  }
  changed_.notify_one();
  return true;
}

void TaskPool::stop() {
  std::vector<Thread> threads;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    threads.swap(threads_);
    changed_.notify_all();
  }
  for (Thread& thread : threads) thread.join();
}

void TaskPool::work() {
  MutexLock lock(mutex_);
  for (;;) {
    while (tasks_.empty()) {
      if (stopping_) return;
      ++idle_;
      changed_.wait(mutex_);
      --idle_;
    }
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    mutex_.unlock();
    run_guarded(task);
    task = nullptr;  // what it held may come back here when it is destroyed
    mutex_.lock();
  }
}

}  // namespace te
