// One connection to a NIC of a peer: a queue pair, what is posted on it, and its state.
//
// Threads: the one that holds the engine's progress lock, except as stated.
#pragma once

#include <cstdint>
#include <memory>

#include "transport/rdma/nic.h"
#include "transport/rdma/send_queue.h"

namespace te::rdma {

class VerbsRail;

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
      : id(number),
        connection_id(connection),
        rail(std::move(owner)),
        nic(through),
        sends(number, through) {}

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
  SendQueue sends;  // of `pair`
};

}  // namespace te::rdma
