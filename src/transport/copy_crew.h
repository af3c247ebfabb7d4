// The threads that copy for a pool: how many do what, and whether one more would be of use.
//
// Not thread-safe: the pool's lock protects it.
#pragma once

#include <cstddef>

namespace te {

class CopyCrew {
 public:
  // The pool has one more thread.
  void hire() { ++size_; }

  // Around each run, by a thread of the pool or one that is lent.
  void begin(bool own) {
    ++copying_;
    if (own) ++own_copying_;
  }
  void end(bool own) {
    --copying_;
    if (own) --own_copying_;
  }
  bool copying() const { return copying_ > 0; }
  // Whether a thread of the pool copies, or is on its way.
  bool at_work() const { return own_copying_ + woken_ > 0; }

  // By a thread of the pool that has nothing to copy.
  void begin_sleep() { ++sleeping_; }
  void end_sleep() {
    --sleeping_;
    if (woken_ > 0) --woken_;
  }
  void begin_linger() { ++lingering_; }
  void end_linger() { --lingering_; }

  // True: a thread that sleeps would be of use, and the caller wakes one.
  bool wake_one() {
    if (!can_wake()) return false;
    ++woken_;
    return true;
  }
  // The same for what a helper would take, if one is expected.
  bool wake_one_unless_helped() {
    if (expected_ == 0) return wake_one();
    if (can_wake()) --expected_;
    return false;
  }
  // A helper that left something behind is thought to come back, for some runs of others.
  void expect_helper() { expected_ = kExpectedRuns; }
  void helper_came() { expected_ = 0; }
  // Whether one more of the pool's threads would only get in the way of those that copy, and of a
  // helper that is about to come back.
  bool enough_copying() const {
    const size_t coming = own_copying_ > 0 && expected_ > 0 ? 1 : 0;
    return copying_ + coming >= size_;
  }

 private:
  static constexpr size_t kExpectedRuns = 4;

  bool can_wake() const { return sleeping_ > woken_ && copying_ + woken_ + lingering_ < size_; }

  size_t size_ = 0;
  size_t copying_ = 0;      // lent ones too
  size_t own_copying_ = 0;  // the pool's among them
  size_t sleeping_ = 0;
  size_t lingering_ = 0;  // look for more before they sleep
  size_t woken_ = 0;      // of those that sleep, on their way
  size_t expected_ = 0;   // runs of others for which a helper is thought to come back
};

}  // namespace te
