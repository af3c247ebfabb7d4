// The work requests of one queue pair, in the order in which they are posted and complete: those to
// be posted, and those under way.
//
// Threads: the one that holds the engine's progress lock.
#pragma once

#include <cstdint>
#include <vector>

#include "core/batch.h"
#include "transport/rails/rail.h"
#include "transport/rdma/nic.h"

namespace te::rdma {

// A slice under way, in one work request or several.
struct Flight {
  Slice* slice = nullptr;
  int64_t posted_ns = 0;
  uint32_t left = 0;  // work requests
  Code code = Code::kOk;
};

class SendQueue {
 public:
  // `number` is in the upper half of each work request's id, its position in the lower one.
  SendQueue(uint32_t number, VerbsNic& nic) : number_(number), nic_(nic) {}

  // Once `pair` is connected, and before any other call. `pair` outlives every flush().
  void start(const QueuePair& pair);
  bool has_room(uint32_t requests) const {
    return head_ - tail_ + requests <= works_.size() && bytes_ < rails::kMostBytesUnderWay &&
           nic_.outstanding.load(std::memory_order_relaxed) + requests <= nic_.queue_depth();
  }

  struct Operation {
    bool write = false;
    const std::byte* local = nullptr;
    bool on_device = false;  // the processor does not reach it
    uint32_t length = 0;
    uint32_t local_key = 0;
    uint64_t remote = 0;
    uint32_t remote_key = 0;
  };
  // There is room. `flight` null: the proof.
  void add(const Operation& operation, Flight* flight);
  // Hands what was added to the NIC, `*posted` work requests. 0, or an errno: then the latest ones
  // were not posted, and are to be taken back.
  int flush(uint32_t* posted);
  bool has_unposted() const { return posted_ != head_; }
  // The latest one.
  Flight* take_unposted();

  struct Work {
    Flight* flight = nullptr;
    uint32_t length = 0;
  };
  // Whether `position` (of a completion) is of something under way.
  bool holds(uint32_t position) const { return position - tail_ < posted_ - tail_; }
  bool empty() const { return head_ == tail_; }
  uint32_t oldest() const { return tail_; }
  Work take_oldest();
  template <typename Visit>
  void for_each_flight(Visit&& visit) const {
    for (uint32_t at = tail_; at != head_; ++at) {
      if (const Flight* flight = works_[place(at)].flight) visit(*flight);
    }
  }

 private:
  static constexpr uint32_t kSignalEvery = 16;
  static constexpr uint32_t kLarge = 64 << 10;  // worth a completion of its own

  // In the rings below, whose sizes are a power of two.
  size_t place(uint32_t position) const { return position & (works_.size() - 1); }

  const uint32_t number_;
  VerbsNic& nic_;
  ibv_qp* pair_ = nullptr;
  std::vector<Work> works_;
  std::vector<ibv_send_wr> requests_;
  std::vector<ibv_sge> pieces_;
  std::vector<std::byte> inlined_;  // what travels inside the requests, at their places
  size_t inline_room_ = 0;          // of one request
  // Positions: tail_ to posted_ are under way, posted_ to head_ to be posted.
  uint32_t head_ = 0, posted_ = 0, tail_ = 0;
  uint64_t bytes_ = 0;  // from tail_ to head_
  uint32_t unsignalled_ = 0;
};

}  // namespace te::rdma
