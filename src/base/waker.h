// Wakes one thread out of a sleep on descriptors.
#pragma once

#include <thread>

#include "base/fd.h"

namespace te {

// Each thread has one. wake() may be called by any thread, the rest is the owner's.
class Waker {
 public:
  // The calling thread's; it lives for as long as the thread can make calls.
  static Waker& of_this_thread();

  bool of_another_thread() const { return owner_ != std::this_thread::get_id(); }
  // Polls readable after wake(); -1 where the process has no descriptor left.
  int descriptor() const { return fd_.get(); }
  void wake();
  // Forgets that it was woken.
  void clear();

 private:
  template <typename T>
  friend T& per_thread();
  Waker();
  Fd fd_;
  uint32_t generation_ = fork_generation();
  const std::thread::id owner_ = std::this_thread::get_id();
};

}  // namespace te
