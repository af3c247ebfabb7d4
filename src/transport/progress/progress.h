// Progress on one NIC or endpoint: which thread does its work, and how slices get in and out.
//
// One thread at a time holds the progress lock and works: a thread that submits, a thread that
// waits for a batch (a caller), or the progress thread. A thread that submits never waits for the
// lock: if it is held, the slices go into the submission queue, which the lock holder drains before
// it leaves. Slices are returned without the lock, by a caller or the progress thread, never from
// inside submit(). Commands, which may take longer, are for the progress thread alone.
//
// Threads: any, unless stated.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/waker.h"
#include "core/batch.h"
#include "transport/progress/callers.h"
#include "transport/progress/progress_thread.h"
#include "transport/progress/submission_queue.h"
#include "transport/transport.h"

namespace te {

// Slices that wait above a NIC for room on it, such as those of a peer with several rails.
class Backlog {
 public:
  virtual ~Backlog() = default;
  // There may be room now. Called without any lock.
  virtual void advance() = 0;
};

// How to sleep until a completion comes.
struct Arming {
  bool news = false;    // do not sleep: something completed already
  int descriptor = -1;  // becomes readable; -1: none does
  int64_t nap_ns = 0;   // without a descriptor, how long a caller sleeps; 0: not at all
};

// What a NIC library does. Called with the progress lock held, unless stated.
class ProgressDriver {
 public:
  virtual ~ProgressDriver() = default;

  // Slices in the order in which they were submitted: posts what there is room for, and keeps the
  // rest for advance().
  virtual void submitted(SliceList slices) = 0;
  // Takes completions once, at most some hundreds. Whether there were any.
  virtual bool poll() = 0;
  // Continues what waits for room or a connection.
  virtual void advance() = 0;
  // By the progress thread: sees to what no completion tells of, such as time limits. When to be
  // called again.
  virtual int64_t watch(int64_t now) = 0;
  // Whether something waits for the progress thread that no completion will tell it of.
  virtual bool needs_thread() const = 0;
  // Has the next completion make a descriptor readable, for the progress thread or for a caller.
  virtual Arming arm(bool for_caller) = 0;
};

class Progress : private CallerWork {
 public:
  // `wake` makes the progress thread call look(). `spin_ns`: for how long callers poll before they
  // sleep, where completions came that soon lately.
  Progress(TransportHost& host, ProgressDriver& driver, int64_t spin_ns,
           std::function<void()> wake);

  // Never blocks. After close() the slices are returned from inside, as kCancelled.
  void submit(SliceList slices);
  // Runs `command` on the progress thread, with the lock. Dropped, and false, after close().
  bool command(std::function<void()> command);
  // Transport::progress.
  bool run_by_caller(int64_t until_ns, Waker& waker);

  // The progress thread's: does what there is to do, and arms a descriptor if it is about to sleep.
  void look(bool before_sleep, Look& look);
  // Whether look() is wanted before any descriptor is readable.
  bool wanted() const { return wanted_.load(); }
  void call_thread();

  // From here on nothing new gets in.
  void close();
  // Runs `work` with the lock, once, and returns what completed. For the end, after close().
  void run(const std::function<void()>& work);

  // The progress lock.
  Mutex lock{LockRank::kProgress};
  // The slices are returned once the lock is free.
  void complete(Slice* slice, Code code) TE_REQUIRES(lock) {
    completed_.slices.emplace_back(slice, code);
  }
  void complete(SliceList slices, Code code) TE_REQUIRES(lock) {
    while (!slices.empty()) complete(slices.pop(), code);
  }
  bool completed_any() const TE_REQUIRES(lock) {
    return !completed_.slices.empty() || !completed_.backlogs.empty();
  }
  // Advances it once the lock is free.
  void advance_later(std::shared_ptr<Backlog> backlog) TE_REQUIRES(lock);
  // What the descriptor belonged to that a caller sleeps on is gone.
  void wake_caller() { callers_.wake(); }
  // Whether a caller is making progress, or is likely to be back soon.
  bool expects_caller(int64_t now) const { return callers_.expected(now); }

  // Operations under way at the NIC. Changed with the lock.
  std::atomic<uint64_t> outstanding{0};
  // Something waits for room or a connection. Changed with the lock.
  std::atomic<bool> blocked{false};

 private:
  struct Completed {
    std::vector<std::pair<Slice*, Code>> slices;
    std::vector<std::shared_ptr<Backlog>> backlogs;
    void swap(Completed& other) {
      slices.swap(other.slices);
      backlogs.swap(other.backlogs);
    }
  };

  bool submit_at_once(SliceList& slices);
  void drain() TE_REQUIRES(lock);
  void run_commands() TE_REQUIRES(lock);
  // Drains the submission queue, if the lock is free.
  void drain_if_free();
  void deliver(Completed& completed);
  // CallerWork
  bool work(int polls) override;
  bool pending() const override { return outstanding.load() > 0 || blocked.load(); }
  BeforeSleep before_sleep(CallerSleep& sleep) override;

  TransportHost& host_;
  ProgressDriver& driver_;
  const std::function<void()> wake_;

  SubmissionQueue queue_;
  std::atomic<bool> wanted_{false};

  Completed completed_ TE_GUARDED_BY(lock);

  CallerProgress callers_;
  Completed by_caller_;  // of the one caller inside; kept for its memory
  // Of the progress thread:
  Completed by_thread_;
  std::vector<SubmissionQueue::Command> running_;  // commands, which end without the lock
  int64_t attended_ns_ = INT64_MIN / 2;            // when it held the lock last
};

}  // namespace te
