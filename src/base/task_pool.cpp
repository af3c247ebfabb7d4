#include "base/task_pool.h"

#include <pthread.h>

namespace te {

bool TaskPool::run(std::function<void()> task) {
  MutexLock lock(mutex_);
  if (stopping_) return false;
  tasks_.push_back(std::move(task));
  if (tasks_.size() > idle_ && threads_.size() < max_threads_) {
    threads_.emplace_back([this] { work(); });
  }
  changed_.notify_one();
  return true;
}

void TaskPool::stop() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    threads.swap(threads_);
    changed_.notify_all();
  }
  for (std::thread& thread : threads) thread.join();
}

void TaskPool::work() {
  ::pthread_setname_np(::pthread_self(), "te-pool");
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
    task();
    task = nullptr;  // what it held may come back here when it is destroyed
    mutex_.lock();
  }
}

}  // namespace te
