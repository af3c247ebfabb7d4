// A value that one thread waits for and another one brings, once.
//
// Threads: any.
#pragma once

#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/mutex.h"

namespace te {

template <typename T>
class Answer {
 public:
  void set(T value) {
    MutexLock lock(mutex_);
    value_.emplace(std::move(value));
    changed_.notify_all();
  }
  T get() {
    MutexLock lock(mutex_);
    while (!value_) changed_.wait(mutex_);
    return std::move(*value_);
  }
  // Nothing where it does not come by then.
  std::optional<T> get_until(int64_t until_ns) {
    MutexLock lock(mutex_);
    while (!value_ && changed_.wait_until(mutex_, to_time_point(until_ns))) {
    }
    return std::move(value_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::optional<T> value_ TE_GUARDED_BY(mutex_);
};

}  // namespace te
