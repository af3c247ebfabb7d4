// A rail over verbs. What is done for it is the VerbsEngine's of its NIC.
//
// Threads: as Path; what needs the engine's progress lock says so.
#pragma once

#include <memory>

#include "transport/rails/rail.h"
#include "transport/rdma/endpoint.h"
#include "transport/rdma/message.h"

namespace te::rdma {

class VerbsRail final : public rails::Rail {
 public:
  using Rail::Rail;

  std::shared_ptr<VerbsRail> shared() {
    return std::static_pointer_cast<VerbsRail>(shared_from_this());
  }
  // Nothing goes to this run of the peer again.
  void set_gone() { gone_.store(true); }

  // With the progress lock.
  struct State {
    std::shared_ptr<Endpoint> endpoint;  // null: none
    Code over = Code::kOk;               // else: nothing goes there again, and this is why
    // It failed, and what waited was returned, so that it goes another way. Slices that are
    // submitted in spite of it have no other way, and wait until the rail is back.
    bool dead = false;
    bool in_line = false;          // waits for an endpoint
    bool granted = false;          // one is kept for it
    uint32_t failures = 0;         // in a row
    int64_t rest_until_ns = 0;     // after a failure; 0: it did not fail
    int64_t proving_since_ns = 0;  // in however many tries; 0: it is not, or was not yet
  } now;
};

}  // namespace te::rdma
