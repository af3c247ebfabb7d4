// One thread that waits on descriptors and runs what others hand it.
//
// run() may be called from any thread; everything else from the loop's own thread only (or before
// start()). Handlers and tasks run on the loop's thread, must not block, and never run after
// stop(). What throws, which memory shortage does, is logged: a handler is called again, a task is
// over.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/mutex.h"
#include "base/spin.h"
#include "base/thread.h"
#include "transfer_engine/status.h"

struct epoll_event;

namespace te {

class EventLoop {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    // `events` as epoll gives them; 0 when called because of again().
    virtual void on_events(uint32_t events) = 0;
    // Whether something short may come any moment, so that the loop may poll before it sleeps. What
    // flows in bulk is worth no polling: it comes in pieces large enough to be woken for.
    virtual bool worth_polling() const { return false; }
    // While the loop polls: looks for itself, which is quicker than to be told. True when there was
    // something.
    virtual bool poll() { return false; }

   private:
    friend class EventLoop;
    bool removed_ = false;
    bool again_ = false;
  };

  // A task that takes no memory to hand over, since it is part of what it ends.
  class LastTask {
   public:
    virtual ~LastTask() = default;
    // May destroy the task.
    virtual void run() = 0;

   private:
    friend class EventLoop;
    LastTask* next_ = nullptr;
  };

  static Result<std::unique_ptr<EventLoop>> create(std::string thread_name);
  ~EventLoop();

  // kResource: there is no thread for it.
  Status start();
  // Ends the thread after the tasks handed over so far; idempotent. From outside the loop only.
  void stop();

  // False, and the task is dropped, after stop() began.
  bool run(std::function<void()> task);
  // The same; after the tasks that were handed over before. Once.
  bool run(LastTask& task);
  bool in_loop() const { return std::this_thread::get_id() == looping_.load(); }

  // Edge-triggered interest in `events`. A handler that was removed may be added again; what is
  // left of its old descriptor's events in this turn then reaches it too.
  Status add(int fd, uint32_t events, Handler* handler);
  // Changes the interest; what is ready now is told again. Any thread, while `fd` is added.
  void change(int fd, uint32_t events, Handler* handler);
  // No events reach the handler after this. It may be destroyed once this turn of the loop is over:
  // see retire().
  void remove(int fd, Handler* handler);
  // Destroys the handler at the end of this turn.
  void retire(std::unique_ptr<Handler> handler);
  // Calls on_events(0) in the next turn, without waiting for an event.
  void again(Handler* handler);
  // Runs `task` once, about `delay_ms` from now.
  void run_after(int64_t delay_ms, std::function<void()> task);
  void run_at(int64_t due_ns, std::function<void()> task);
  // The loop polls for at most this long before it sleeps; before start().
  void set_spin_ns(int64_t spin_ns) { spin_ = SpinPolicy(spin_ns); }

 private:
  struct Timer {
    int64_t at_ns;
    uint64_t order;
    std::function<void()> task;
    bool operator<(const Timer& other) const {
      return at_ns != other.at_ns ? at_ns > other.at_ns : order > other.order;
    }
  };

  explicit EventLoop(std::string thread_name) : name_(std::move(thread_name)) {}
  void loop();
  int wait(epoll_event* events, int capacity);
  bool poll_latest(int64_t until_ns);
  void forget(Handler* handler);
  void turn();
  void call(Handler* handler, uint32_t events);
  int sleep_ms() const;
  void run_tasks();
  void wake();
  void run_timers();

  const std::string name_;
  Fd epoll_;
  Fd wake_;
  Thread thread_;
  std::atomic<std::thread::id> looping_{};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> woken_{false};
  Mutex mutex_{LockRank::kLoop};
  std::vector<std::function<void()>> tasks_ TE_GUARDED_BY(mutex_);
  LastTask* last_tasks_ TE_GUARDED_BY(mutex_) = nullptr;
  bool stopped_ TE_GUARDED_BY(mutex_) = false;
  // The loop's own.
  SpinPolicy spin_{0};
  Handler* latest_ = nullptr;  // whose turn it was last
  std::vector<Handler*> again_;
  std::vector<std::unique_ptr<Handler>> retired_;
  std::priority_queue<Timer> timers_;
  uint64_t next_timer_ = 0;
};

}  // namespace te
