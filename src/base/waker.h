// Wakes one thread out of a sleep on descriptors.
#pragma once

#include "base/fd.h"

namespace te {

// Each thread has one. wake() may be called by any thread, the rest is the owner's.
class Waker {
 public:
  // The calling thread's; it lives until the thread ends.
  static Waker& of_this_thread();

  // Polls readable after wake(); -1 where the process has no descriptor left.
  int descriptor() const { return fd_.get(); }
  void wake() const;
  // Forgets that it was woken.
  void clear() const;

 private:
  Waker();
  const Fd fd_;
};

}  // namespace te
