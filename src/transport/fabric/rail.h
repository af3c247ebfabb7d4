// A rail over libfabric. What is done for it is its FabricEngine's.
//
// Threads: as Path; `link` needs the engine's progress lock.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/batch.h"
#include "transport/fabric/message.h"
#include "transport/rails/peer_rails.h"
#include "transport/transport.h"

namespace te::fabric {

class FabricEngine;
struct Job;

// Words for peers to read. The first holds the instance of the engine, so that a peer finds
// out whom it reached; each of the others differs, so that a peer finds out whether an answer is
// the one to its question.
struct alignas(64) LivenessWords {
  static constexpr size_t kWords = 4096;
  static uint64_t word(uint64_t instance, size_t at) {
    return instance ^ (at * 0x9e3779b97f4a7c15);
  }
  explicit LivenessWords(uint64_t instance) {
    for (size_t at = 0; at < kWords; ++at) words[at] = word(instance, at);
  }

  uint64_t words[kWords];
};

// A slice whose connection broke, before the target was asked whether its memory was the reason.
struct Suspect {
  Slice* slice = nullptr;  // null: it came back meanwhile
  int64_t posted_ns = 0;
};

// What the peer knows a path by. Used again once the path is retired, so that a peer has no more of
// them to keep than there are paths at a time.
struct Identity {
  uint64_t id = 0;
  std::atomic<uint64_t> epoch{0};  // of its latest connection
};

// How a rail stands with the engine's endpoint.
struct Link {
  enum class State { kIdle, kOpening, kProbing, kReady };

  State state = State::kIdle;
  uint64_t epoch = 0;      // of this connection
  Bytes name;              // of the peer's endpoint for it
  bool fenced = false;     // something of this connection may still arrive, which the engine knows
  bool checking = false;   // the peer is asked whether it is there
  int64_t checked_ns = 0;  // when it was asked last
  bool failed = false;     // since the last success
  bool inserted = false;   // `address` counts
  uint64_t address = 0;    // in the endpoint's address vector
  Job* partial = nullptr;  // posted in part
  bool probe_posted = false;
  uint32_t outstanding = 0;  // operations of slices
  uint64_t outstanding_bytes = 0;
  int64_t probing_since_ns = 0;
  int64_t progress_ns = 0;        // of the last completion, or of the first post after silence
  int64_t blocked_since_ns = 0;   // though nothing is under way, nothing can be posted; 0: it can
  int64_t unwanted_since_ns = 0;  // operations under way that are wanted back; 0: none

  // Both: see engine_memory.cpp. The READs of this connection:
  struct Reads {
    uint64_t posted = 0;
    uint64_t asked = 0;          // of them, those before the last confirmation that was posted
    uint64_t confirmed = 0;      // and before the last one that came
    uint32_t confirmations = 0;  // under way
    size_t word = 0;             // of the last
    std::vector<Job*> unconfirmed;
    int64_t asked_ns = 0;  // about those under way
  } reads;
  // What all connections left in doubt.
  struct Suspects {
    std::vector<Suspect> all;
    size_t asked = 0;  // of them, those in the question under way
    int64_t since_ns = 0;
    uint64_t question = 0;  // the last; 0: none
    bool asking = false;    // it is under way
  } suspects;
};

class FabricRail final : public rails::Rail {
 public:
  FabricRail(Transport& owner, std::shared_ptr<FabricEngine> through, const std::string& device,
             std::shared_ptr<const rails::Advertisement> advertised, const Advertised& details,
             const Peer& peer, size_t local_nic, size_t remote_nic,
             std::shared_ptr<Identity> identity);
  ~FabricRail() override;

  std::shared_ptr<FabricRail> shared() {
    return std::static_pointer_cast<FabricRail>(shared_from_this());
  }

  uint64_t instance() const { return to.instance; }
  Identity& identity() const { return *identity_; }
  const std::shared_ptr<Identity>& shared_identity() const { return identity_; }

  const bool virtual_addresses;  // the peer's memory is named so
  const NicAddress nic_there;
  Link link;

 private:
  const std::shared_ptr<FabricEngine> engine_;  // which this counts on
  const std::shared_ptr<Identity> identity_;
};

}  // namespace te::fabric
