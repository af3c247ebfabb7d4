// One connection to a NIC of a peer: a queue pair, what is posted on it, and how it stands.
//
// Threads: the one that holds the engine's progress lock, except as stated.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/batch.h"
#include "transport/rdma/nic.h"

namespace te::rdma {

class VerbsRail;

// A slice under way, in one work request or several.
struct Flight {
  Slice* slice = nullptr;
  int64_t posted_ns = 0;
  uint32_t left = 0;  // work requests
  Code code = Code::kOk;
};

class Endpoint {
 public:
  enum class State : uint8_t {
    kMaking,    // by the pool: the queue pair is made, and the peer asked for its end
    kProving,   // connected; a WRITE of nothing is under way
    kReady,     // in use
    kDraining,  // wanted by others: takes nothing more
    kFailing,   // what is under way comes back
    kClosing,   // by the pool
  };

  Endpoint(uint32_t number, uint64_t connection, std::shared_ptr<VerbsRail> owner,
           VerbsNic& through)
      : id(number), connection_id(connection), rail(std::move(owner)), nic(through) {}

  const uint32_t id;
  const uint64_t connection_id;  // as the peer knows it
  const std::shared_ptr<VerbsRail> rail;
  VerbsNic& nic;
  State state = State::kMaking;
  bool requeues = true;           // what comes back is tried on other rails
  bool leaving = false;           // makes room for another
  bool fenced = false;            // the peer is asked to destroy its end
  bool peer_has_end = false;      // and is told when this one closes
  int64_t since_ns = 0;           // of the state
  int64_t progress_ns = 0;        // of the last completion, or of the first post after silence
  int64_t used_ns = 0;            // of the last post
  int64_t unwanted_since_ns = 0;  // something under way is wanted back; 0: nothing
  std::unique_ptr<QueuePair> pair;

  // After `pair` was connected.
  void start();
  uint32_t outstanding() const { return head_ - tail_; }
  bool has_room(uint32_t requests) const {
    return outstanding() + requests <= works_.size() &&
           nic.outstanding.load(std::memory_order_relaxed) + requests <= nic.queue_depth();
  }

  struct Operation {
    bool write = false;
    const std::byte* local = nullptr;
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

  // What was posted, in order.
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

  std::vector<Work> works_;
  std::vector<ibv_send_wr> requests_;
  std::vector<ibv_sge> pieces_;
  std::vector<std::byte> inlined_;  // what travels inside the requests, at their places
  uint32_t head_ = 0, posted_ = 0, tail_ = 0;
  uint32_t unsignalled_ = 0;
};

}  // namespace te::rdma
