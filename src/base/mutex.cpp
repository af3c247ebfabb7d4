#include "base/mutex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <ctime>

namespace te {
namespace {

// To look so often takes less than to sleep, and most holders are gone by then.
constexpr int kLooks = 200;

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));

// Sleeps while the word has that value; may wake for no reason. False when `until` passed.
bool futex_wait(std::atomic<uint32_t>& word, uint32_t value,
                const std::chrono::steady_clock::time_point* until) {
  timespec time{};
  if (until != nullptr) {
    const int64_t ns = std::max<int64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(until->time_since_epoch()).count(), 0);
    time.tv_sec = ns / 1'000'000'000;
    time.tv_nsec = ns % 1'000'000'000;
  }
  // Of the two kinds of waiting, the one with a bit set takes a point in time.
  return ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, value,
                   until != nullptr ? &time : nullptr, nullptr, FUTEX_BITSET_MATCH_ANY) == 0 ||
         errno != ETIMEDOUT;
}

void futex_wake(std::atomic<uint32_t>& word, int32_t count) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

}  // namespace

void Mutex::sleep_until_taken() {
  for (int i = 0; i < kLooks && state_.load(std::memory_order_relaxed) != kAwaited; ++i) {
    if (state_.load(std::memory_order_relaxed) == kFree && take()) return;
  }
  // Whether others still sleep for it is not known, so it is theirs to be woken for from here on.
  while (state_.exchange(kAwaited) != kFree) futex_wait(state_, kAwaited, nullptr);
}

void Mutex::wake_one() { futex_wake(state_, 1); }

void CondVar::wait(Mutex& mutex) { sleep(mutex, nullptr); }

bool CondVar::wait_until(Mutex& mutex, std::chrono::steady_clock::time_point until) {
  return sleep(mutex, &until);
}

bool CondVar::sleep(Mutex& mutex, const std::chrono::steady_clock::time_point* until) {
  waiting_.fetch_add(1, std::memory_order_relaxed);
  const uint32_t wakes = wakes_.load(std::memory_order_relaxed);
  mutex.unlock();
  const bool in_time = futex_wait(wakes_, wakes, until);
  mutex.lock();
  waiting_.fetch_sub(1, std::memory_order_relaxed);
  return in_time;
}

void CondVar::wake(int32_t count) {
  wakes_.fetch_add(1, std::memory_order_relaxed);
  futex_wake(wakes_, count);
}

void SharedMutex::lock() {
  TE_LOCK_ORDER(lock_order::about_to_wait(rank_));
  writer_.lock();
  uint32_t readers = readers_.fetch_or(kWriter, std::memory_order_acquire) | kWriter;
  while (readers != kWriter) {
    futex_wait(readers_, readers, nullptr);
    readers = readers_.load(std::memory_order_acquire);
  }
  TE_LOCK_ORDER(lock_order::taken(rank_));
}

void SharedMutex::unlock() {
  TE_LOCK_ORDER(lock_order::released(rank_));
  readers_.store(0, std::memory_order_release);
  writer_.unlock();
}

// Behind the writer that is there; none is while the lock is held.
void SharedMutex::lock_shared_in_turn() {
  const MutexLock turn(writer_);
  readers_.fetch_add(1, std::memory_order_acquire);
}

void SharedMutex::wake_writer() { futex_wake(readers_, 1); }

}  // namespace te
