// Locks that are a few instructions where nobody is in the way: one small transfer takes a dozen.
// Who finds one taken looks again for a moment, then sleeps in the kernel.
//
// None may be taken twice by one thread, a SharedMutex not even for reading. Nobody may be inside
// any of their calls when they end.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/lock_rank.h"
#include "base/thread_annotations.h"

// ThreadSanitizer is told what is a lock: it finds those taken in opposite orders.
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define TE_TSAN(call) call
#else
#define TE_TSAN(call)
#endif

namespace te {

class TE_CAPABILITY("mutex") Mutex {
 public:
  explicit Mutex([[maybe_unused]] LockRank rank = LockRank::kLeaf) TE_LOCK_ORDER( : rank_(rank)) {}
  ~Mutex() { TE_TSAN(__tsan_mutex_destroy(this, 0)); }
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() TE_ACQUIRE() {
    TE_LOCK_ORDER(lock_order::about_to_wait(rank_));
    TE_TSAN(__tsan_mutex_pre_lock(this, 0));
    if (!take()) sleep_until_taken();
    TE_LOCK_ORDER(lock_order::taken(rank_));
    TE_TSAN(__tsan_mutex_post_lock(this, 0, 0));
  }
  // In one order with all other atomic operations, as is try_lock(): who failed to take the lock
  // relies on the holder to see, after unlock(), what was stored before.
  void unlock() TE_RELEASE() {
    TE_LOCK_ORDER(lock_order::released(rank_));
    TE_TSAN(__tsan_mutex_pre_unlock(this, 0));
    if (state_.exchange(kFree) == kAwaited) wake_one();
    TE_TSAN(__tsan_mutex_post_unlock(this, 0));
  }
  bool try_lock() TE_TRY_ACQUIRE(true) {
    TE_TSAN(__tsan_mutex_pre_lock(this, __tsan_mutex_try_lock));
    const bool taken = take();
    TE_LOCK_ORDER(if (taken) lock_order::taken(rank_));
    TE_TSAN(__tsan_mutex_post_lock(
        this, __tsan_mutex_try_lock | (taken ? 0 : __tsan_mutex_try_lock_failed), 0));
    return taken;
  }

 private:
  static constexpr uint32_t kFree = 0, kTaken = 1;
  static constexpr uint32_t kAwaited = 2;  // taken, and somebody may sleep for it

  bool take() {
    uint32_t free = kFree;
    return state_.compare_exchange_strong(free, kTaken);
  }
  void sleep_until_taken();
  void wake_one();

  std::atomic<uint32_t> state_{kFree};
  TE_LOCK_ORDER(const LockRank rank_;)
};

// For as long as it is there, the lock is held, by nobody else.
template <typename Lock>
class TE_SCOPED_CAPABILITY ExclusiveLock {
 public:
  explicit ExclusiveLock(Lock& mutex) TE_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~ExclusiveLock() TE_RELEASE() { mutex_.unlock(); }
  ExclusiveLock(const ExclusiveLock&) = delete;
  ExclusiveLock& operator=(const ExclusiveLock&) = delete;

 private:
  Lock& mutex_;
};

using MutexLock = ExclusiveLock<Mutex>;

// Waits with a Mutex that the caller holds; may wake for no reason. What is waited for changes
// under that mutex; notify may come after it.
class CondVar {
 public:
  void notify_one() {
    if (waiting_.load(std::memory_order_relaxed) != 0) wake(1);
  }
  void notify_all() {
    if (waiting_.load(std::memory_order_relaxed) != 0) wake(INT32_MAX);
  }
  void wait(Mutex& mutex) TE_REQUIRES(mutex);
  // False when `until` passed.
  bool wait_until(Mutex& mutex, std::chrono::steady_clock::time_point until) TE_REQUIRES(mutex);

 private:
  bool sleep(Mutex& mutex, const std::chrono::steady_clock::time_point* until) TE_REQUIRES(mutex);
  void wake(int32_t count);

  std::atomic<uint32_t> wakes_{0};
  std::atomic<uint32_t> waiting_{0};
};

// Many readers or one writer. A writer that waits keeps new readers out.
class TE_CAPABILITY("mutex") SharedMutex {
 public:
  explicit SharedMutex([[maybe_unused]] LockRank rank = LockRank::kLeaf) TE_LOCK_ORDER(
      : rank_(rank)) {}
  SharedMutex(const SharedMutex&) = delete;
  SharedMutex& operator=(const SharedMutex&) = delete;

  void lock() TE_ACQUIRE();
  void unlock() TE_RELEASE();
  void lock_shared() TE_ACQUIRE_SHARED() {
    TE_LOCK_ORDER(lock_order::about_to_wait(rank_));
    uint32_t readers = readers_.load(std::memory_order_relaxed);
    if ((readers & kWriter) != 0 ||
        !readers_.compare_exchange_strong(readers, readers + 1, std::memory_order_acquire,
                                          std::memory_order_relaxed)) {
      lock_shared_in_turn();
    }
    TE_LOCK_ORDER(lock_order::taken(rank_));
  }
  void unlock_shared() TE_RELEASE_SHARED() {
    TE_LOCK_ORDER(lock_order::released(rank_));
    if (readers_.fetch_sub(1, std::memory_order_release) == (kWriter | 1)) wake_writer();
  }

 private:
  static constexpr uint32_t kWriter = 1u << 31;

  void lock_shared_in_turn();
  void wake_writer();

  std::atomic<uint32_t> readers_{0};  // and whether there is a writer
  TE_LOCK_ORDER(const LockRank rank_;)
  Mutex writer_{LockRank::kUnchecked};  // held by it, or by a reader that is about to come in
};

using WriterLock = ExclusiveLock<SharedMutex>;

class TE_SCOPED_CAPABILITY ReaderLock {
 public:
  explicit ReaderLock(SharedMutex& mutex) TE_ACQUIRE_SHARED(mutex) : mutex_(mutex) {
    mutex_.lock_shared();
  }
  ~ReaderLock() TE_RELEASE_GENERIC() { mutex_.unlock_shared(); }
  ReaderLock(const ReaderLock&) = delete;
  ReaderLock& operator=(const ReaderLock&) = delete;

 private:
  SharedMutex& mutex_;
};

}  // namespace te
