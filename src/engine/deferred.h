// Submissions that follow work of a GPU: accepted and planned, and posted once that work has ended.
// They are held here, above the transports, so that every path keeps the order.
//
// Threads: start(), add() and stop() from any; one of its own, made at the first use and asleep
// while nothing is held, asks the driver and posts.
#pragma once

#include <cstdint>
#include <list>
#include <memory>

#include "base/mutex.h"
#include "base/thread.h"
#include "engine/submission_plan.h"
#include "platform/memory_driver.h"

namespace te {

class Transfers::Deferred {
 public:
  explicit Deferred(Transfers& transfers) : transfers_(transfers) {}
  ~Deferred() { stop(); }
  Deferred(const Deferred&) = delete;
  Deferred& operator=(const Deferred&) = delete;

  // Before add(). kResource.
  Status start();
  void add(Plan plan, std::unique_ptr<DeviceWork> work);
  // Returns when nothing is held: Transfers must have cancelled all of it before.
  void stop();

 private:
  struct Entry {
    Plan plan;
    std::unique_ptr<DeviceWork> work;
    int64_t since_ns = 0;
  };

  void run();
  // Waits for something new, for the next look at what is held, or for the end: false.
  bool wait();
  // Whether it is held no longer.
  bool look(Entry& entry);

  Transfers& transfers_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ TE_GUARDED_BY(mutex_) = false;
  std::list<Entry> added_ TE_GUARDED_BY(mutex_);
  std::list<Entry> held_;  // the thread's
  Thread thread_ TE_GUARDED_BY(mutex_);
};

}  // namespace te
