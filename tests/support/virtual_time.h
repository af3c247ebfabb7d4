// Time that goes on when a test says so, and the tasks that wait for it. One thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>

namespace te::test {

class VirtualTime {
 public:
  void run_at(int64_t at_ms, std::function<void()> task) { tasks_.emplace(at_ms, std::move(task)); }
  // Runs what is due meanwhile, each task at its time.
  void advance(int64_t ms) {
    const int64_t until = now_ms + ms;
    while (!tasks_.empty() && tasks_.begin()->first <= until) {
      const std::function<void()> task = std::move(tasks_.begin()->second);
      now_ms = std::max(now_ms, tasks_.begin()->first);
      tasks_.erase(tasks_.begin());
      task();
    }
    now_ms = until;
  }

  int64_t now_ms = 1'000;

 private:
  std::multimap<int64_t, std::function<void()>> tasks_;
};

}  // namespace te::test
