// Sends of one connection without a copy (MSG_ZEROCOPY). The kernel numbers them, reads the memory
// until the peer has acknowledged it, and reports completions by the socket's error queue.
//
// Threads: what is marked so is the sender's or the receiver's of the lane.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "transport/tcp/zero_copy_trial.h"

namespace te::tcp {

// What all connections of an engine did.
struct ZeroCopyTotals {
  std::atomic<uint64_t> sends{0};
  std::atomic<uint64_t> copied{0};   // of them: the kernel copied after all
  std::atomic<uint64_t> refused{0};  // not taken so by the kernel, and sent with a copy
  std::atomic<uint64_t> kept{0};     // connections that found it to pay
  std::atomic<uint32_t> open{0};     // connections of whose memory the kernel may hold some

  void wait_until_none_open() {
    for (uint32_t some = open.load(); some != 0; some = open.load()) open.wait(some);
  }
};

// Which of a connection's sends have completed: the kernel reads their memory no more. It counts
// them with 32 bits, and reports some out of order. One thread at a time.
class ZeroCopyCompletions {
 public:
  void add(uint32_t first, uint32_t last);
  // All sends below this number have completed.
  uint64_t below() const { return below_; }

 private:
  uint64_t below_ = 0;
  std::vector<std::pair<uint64_t, uint64_t>> early_;  // from, and up to; beyond below_
};

class ZeroCopy {
 public:
  // Before the first send, once.
  void enable(int fd, ZeroCopyMode mode, std::shared_ptr<ZeroCopyTotals> totals);
  // Once nothing is sent any more and everything was given back.
  void close();
  bool enabled() const { return totals_ != nullptr; }

  // The sender's. Whether a frame with that payload is to be sent by send(), from head to end().
  bool takes(uint64_t bytes, size_t requests);
  // As sendmsg(). A head is read now, since its memory is used again; of the payload the kernel may
  // keep the pages.
  ssize_t send(int fd, msghdr& message, bool head);
  // The frame was sent; its payload's memory is free once completed() of what this returns.
  uint64_t end();

  // The receiver's.
  bool outstanding() const {
    return completions_.below() != sends_.load(std::memory_order_relaxed);
  }
  void take_notifications(int fd);
  bool completed(int fd, uint64_t below) {
    if (below > completions_.below()) take_notifications(fd);
    return below <= completions_.below();
  }
  // Whether nothing is read from here any more; no sender is there.
  bool quiet(int fd) { return completed(fd, sends_.load()); }

 private:
  // Where packets are queued for longer, tasks whose memory they hold could not end in time.
  static constexpr int64_t kSlowNs = 10'000'000;

  bool is_slow(uint64_t reported);

  std::shared_ptr<ZeroCopyTotals> totals_;
  // The sender's.
  ZeroCopyTrial trial_{ZeroCopyMode::kOff};
  bool without_copy_ = false;   // this frame
  uint64_t last_reported_ = 0;  // of reported_, when it changed last
  int64_t held_since_ns_ = 0;   // since then some are outstanding, and none completed
  bool refused_ = false;        // some of it
  uint64_t bytes_ = 0;          // its payload
  int64_t cpu_ns_ = 0;          // for it

  std::atomic<uint64_t> sends_{0};
  std::atomic<uint64_t> reported_{0};  // of them
  std::atomic<uint64_t> copied_{0};
  std::atomic<bool> measures_{false};
  std::atomic<int64_t> notifications_ns_{0};  // of the processor, not counted yet

  ZeroCopyCompletions completions_;  // the receiver's
};

}  // namespace te::tcp
