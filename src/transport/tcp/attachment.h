// Whether the lanes of a path are attached to their event loops. While a caller makes progress, and
// for a lease after it has left, they are detached: no thread of a loop is woken for what the
// caller does itself.
//
// Threads: whoever is inside the path's CallerProgress, unless stated.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "transport/tcp/lane.h"

namespace te::tcp {

using Lanes = std::vector<std::shared_ptr<Lane>>;

class Attachment {
 public:
  // The calling thread makes progress from here on, and renews the lease.
  void caller_began();

  // True: a lease began, so check_lease() is due, soon and then every lease_ms().
  bool detach(const std::shared_ptr<const Lanes>& lanes);
  // Nothing where they are attached.
  void attach();
  bool is_detached(const std::shared_ptr<const Lanes>& lanes) const {
    return !detached_.owner_before(lanes) && !lanes.owner_before(detached_);
  }

  // Attaches the lanes where no caller has been here since the last check. False: that was the
  // last check.
  bool check_lease();
  // Any thread: time until the next check. The longer callers have come, the longer it is.
  int64_t lease_ms() const { return lease_ms_.load(); }

  // Any thread.
  bool any_detached() const { return any_detached_.load(); }
  // Any thread: whether lanes are detached for another thread's sake than the calling one.
  bool detached_for_another_thread() const;

 private:
  std::weak_ptr<const Lanes> detached_;  // they hold the path
  std::atomic<bool> any_detached_{false};
  std::atomic<const void*> caller_{nullptr};  // the thread that came last
  uint64_t calls_ = 0;
  uint64_t calls_at_check_ = 0;
  bool leased_ = false;  // a check is to come
  std::atomic<int64_t> lease_ms_{0};
};

}  // namespace te::tcp
