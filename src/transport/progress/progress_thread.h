// The thread that makes progress for a NIC when no caller does: polls while that pays, then sleeps
// until a descriptor is readable, a time comes, or somebody wakes it.
#pragma once

#include <poll.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/thread.h"
#include "transfer_engine/status.h"

namespace te {

// What one round of a progress thread found, and what it may sleep on.
struct Look {
  bool news = false;                // something happened: another round at once
  bool left_to_caller = false;      // a caller makes progress: polling pays nothing
  int64_t next_ns = kNever;         // when to come again
  std::vector<pollfd> descriptors;  // to sleep on

  void come_at(int64_t at_ns) { next_ns = at_ns < next_ns ? at_ns : next_ns; }
  void listen(int descriptor) { descriptors.push_back({descriptor, POLLIN, 0}); }
};

// The work of a progress thread. Called by that thread, unless stated.
class ProgressWork {
 public:
  virtual ~ProgressWork() = default;
  // Does what there is to do. `before_sleep`: also arms descriptors; otherwise another round
  // follows at once.
  virtual void look(bool before_sleep, Look& look) = 0;
  // Whether look() is wanted before any descriptor is readable.
  virtual bool wanted() const = 0;
  // After a sleep, and now and then while it polls: takes what descriptors report. True: news.
  virtual bool take_events() { return false; }
};

class ProgressThread {
 public:
  // `spin_ns`: for how long to poll before a sleep, where something came that soon lately.
  ProgressThread(ProgressWork& work, int64_t spin_ns);
  ~ProgressThread() { stop(); }

  // kResource: no thread, or no descriptor, is to be had.
  Status start(const char* name);
  // Any thread: another round, if it sleeps.
  void wake();
  // Returns once the thread has ended.
  void stop();
  bool stopping() const { return stopping_.load(); }

 private:
  void run();
  // True: a descriptor was readable.
  bool sleep(Look& look);

  ProgressWork& work_;
  const int64_t spin_ns_;
  const Fd wake_;
  std::atomic<bool> asleep_{false};
  std::atomic<bool> stopping_{false};
  Thread thread_;
};

}  // namespace te
