// The messages that arrived and wait to be taken, each once however often it was sent.
//
// Threads: any.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/mutex.h"
#include "core/wire.h"

namespace te {

class Notifications {
 public:
  explicit Notifications(uint64_t max_waiting) : max_waiting_(max_waiting) {}

  // Ok for a repetition too. kBusy when too many wait, or too many bytes.
  Status deliver(wire::NotifyBody body);
  // One that this engine, `instance`, sends to itself.
  Status deliver_own(uint64_t instance, const Notification& notification) {
    return deliver({instance, next_own_.fetch_add(1), notification});
  }
  std::vector<Notification> take();

 private:
  static constexpr size_t kMaxSenders = 4096;
  static constexpr size_t kRemembered = 1024;  // sequence numbers per sender
  static constexpr uint64_t kMaxBytes = 256 << 20;

  struct Sender {
    std::unordered_set<uint64_t> seen;
    std::deque<uint64_t> order;
  };

  const uint64_t max_waiting_;
  std::atomic<uint64_t> next_own_{1};
  Mutex mutex_;
  std::vector<Notification> waiting_ TE_GUARDED_BY(mutex_);
  uint64_t waiting_bytes_ TE_GUARDED_BY(mutex_) = 0;
  std::unordered_map<uint64_t, Sender> senders_ TE_GUARDED_BY(mutex_);
  std::deque<uint64_t> sender_order_ TE_GUARDED_BY(mutex_);
};

}  // namespace te
