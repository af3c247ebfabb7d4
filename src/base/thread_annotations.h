// Clang's thread-safety annotations, and the mutex that carries them.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <shared_mutex>

#if defined(__clang__)
#define TE_ANNOTATION(x) __attribute__((x))
#else
#define TE_ANNOTATION(x)
#endif

#define TE_CAPABILITY(x) TE_ANNOTATION(capability(x))
#define TE_SCOPED_CAPABILITY TE_ANNOTATION(scoped_lockable)
#define TE_GUARDED_BY(x) TE_ANNOTATION(guarded_by(x))
#define TE_PT_GUARDED_BY(x) TE_ANNOTATION(pt_guarded_by(x))
#define TE_REQUIRES(...) TE_ANNOTATION(requires_capability(__VA_ARGS__))
#define TE_ACQUIRE(...) TE_ANNOTATION(acquire_capability(__VA_ARGS__))
#define TE_RELEASE(...) TE_ANNOTATION(release_capability(__VA_ARGS__))
#define TE_ACQUIRE_SHARED(...) TE_ANNOTATION(acquire_shared_capability(__VA_ARGS__))
#define TE_RELEASE_SHARED(...) TE_ANNOTATION(release_shared_capability(__VA_ARGS__))
#define TE_RELEASE_GENERIC(...) TE_ANNOTATION(release_generic_capability(__VA_ARGS__))
#define TE_REQUIRES_SHARED(...) TE_ANNOTATION(requires_shared_capability(__VA_ARGS__))
#define TE_TRY_ACQUIRE(...) TE_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define TE_EXCLUDES(...) TE_ANNOTATION(locks_excluded(__VA_ARGS__))
#define TE_RETURN_CAPABILITY(x) TE_ANNOTATION(lock_returned(x))
#define TE_NO_THREAD_SAFETY_ANALYSIS TE_ANNOTATION(no_thread_safety_analysis)

namespace te {

class TE_CAPABILITY("mutex") Mutex {
 public:
  void lock() TE_ACQUIRE() { mutex_.lock(); }
  void unlock() TE_RELEASE() { mutex_.unlock(); }
  bool try_lock() TE_TRY_ACQUIRE(true) { return mutex_.try_lock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class TE_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) TE_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() TE_RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Waits with a Mutex that the caller holds.
class CondVar {
 public:
  void notify_one() { cv_.notify_one(); }
  void notify_all() { cv_.notify_all(); }
  void wait(Mutex& mutex) TE_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    cv_.wait(lock);
    lock.release();
  }
  // False when `until` passed.
  bool wait_until(Mutex& mutex, std::chrono::steady_clock::time_point until) TE_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const bool woken = cv_.wait_until(lock, until) == std::cv_status::no_timeout;
    lock.release();
    return woken;
  }

 private:
  std::condition_variable cv_;
};

class TE_CAPABILITY("mutex") SharedMutex {
 public:
  void lock() TE_ACQUIRE() { mutex_.lock(); }
  void unlock() TE_RELEASE() { mutex_.unlock(); }
  void lock_shared() TE_ACQUIRE_SHARED() { mutex_.lock_shared(); }
  void unlock_shared() TE_RELEASE_SHARED() { mutex_.unlock_shared(); }

 private:
  std::shared_mutex mutex_;
};

class TE_SCOPED_CAPABILITY WriterLock {
 public:
  explicit WriterLock(SharedMutex& mutex) TE_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~WriterLock() TE_RELEASE() { mutex_.unlock(); }
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

 private:
  SharedMutex& mutex_;
};

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
