// One way from a card here to a card of a peer. What is done for it is the Initiator's.
//
// Threads: as Path; `link` is for the thread that has the initiator's turn.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/batch.h"
#include "core/path.h"
#include "transport/fabric/group.h"
#include "transport/fabric/message.h"
#include "transport/transport.h"

namespace te::fabric {

class Initiator;
struct Job;

// Words for peers to read. The first holds the instance of the engine, so that a peer finds
// out whom it reached; each of the others differs, so that a peer finds out whether an answer is
// the one to its question.
struct alignas(64) Beacon {
  static constexpr size_t kWords = 4096;
  static uint64_t word(uint64_t instance, size_t at) {
    return instance ^ (at * 0x9e3779b97f4a7c15);
  }
  explicit Beacon(uint64_t instance) {
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

// How a path stands with the initiator's endpoint.
struct Link {
  enum class State { kIdle, kOpening, kProbing, kReady };

  State state = State::kIdle;
  uint64_t epoch = 0;      // of this connection
  Bytes name;              // of the peer's endpoint for it
  bool fenced = false;     // something of this connection may still arrive, which the engine knows
  bool checking = false;   // the peer is asked whether it is there
  int64_t checked_ns = 0;  // when it was asked last
  bool active = false;     // among those with something that waits
  bool connect = false;    // also without slices
  bool failed = false;     // since the last success
  bool inserted = false;   // `address` counts
  uint64_t address = 0;    // in the endpoint's address vector
  SliceList queue;
  Job* partial = nullptr;  // posted in part
  bool probe_posted = false;
  bool retired = false;
  uint32_t outstanding = 0;  // operations of slices
  uint64_t outstanding_bytes = 0;
  int64_t probing_since_ns = 0;
  int64_t progress_ns = 0;        // of the last completion, or of the first post after silence
  int64_t blocked_since_ns = 0;   // though nothing is under way, nothing can be posted; 0: it can
  int64_t unwanted_since_ns = 0;  // operations under way that are wanted back; 0: none

  // See initiator_memory.cpp. Of this connection:
  uint64_t reads = 0;            // READs posted
  uint64_t reads_asked = 0;      // of them, those before the last confirmation that was posted
  uint64_t reads_confirmed = 0;  // and before the last one that came
  uint32_t confirmations = 0;    // under way
  size_t word = 0;               // of the last
  std::vector<Job*> unconfirmed;
  int64_t asked_ns = 0;  // about the READs under way
  // Of all connections:
  std::vector<Suspect> suspects;
  size_t suspects_asked = 0;  // of them, those in the question under way
  int64_t suspects_since_ns = 0;
  uint64_t question = 0;  // the last; 0: none
  bool asking = false;    // it is under way
};

class FabricPath final : public Path, public std::enable_shared_from_this<FabricPath> {
 public:
  FabricPath(Transport& owner, std::shared_ptr<Initiator> initiator, const std::string& device,
             std::shared_ptr<const Offer> offer, size_t remote_card, const Peer& peer,
             std::shared_ptr<Identity> identity)
      : Path(owner, device, offer->cards[remote_card].device, peer.address.to_string()),
        initiator_(std::move(initiator)),
        offer_(std::move(offer)),
        card_(remote_card),
        peer_(peer),
        identity_(std::move(identity)) {
    count_in();
  }
  ~FabricPath() override;

  bool reaches(const std::byte* key) const override {
    return group_ ? group_->reaches(key) : (Key::nics_of(key) >> card_ & 1) != 0;
  }

  // Before anything else. `place` is the path's in the group.
  void join(std::shared_ptr<Group> group, size_t place) {
    group_ = std::move(group);
    place_ = place;
  }
  // With the other paths to the same peer; null: there are none.
  const std::shared_ptr<Group>& group() const { return group_; }
  size_t place() const { return place_; }
  Initiator& initiator() { return *initiator_; }
  const Offer& offer() const { return *offer_; }
  size_t remote_card() const { return card_; }
  const Offer::Card& remote() const { return offer_->cards[card_]; }
  const Peer& peer() const { return peer_; }
  uint64_t instance() const { return peer_.instance; }
  Identity& identity() const { return *identity_; }
  const std::shared_ptr<Identity>& shared_identity() const { return identity_; }

  Link link;

  // Handed to the initiator, not yet taken; guarded by its mailbox.
  struct Mail {
    bool queued = false;
    SliceList slices;
    bool connect = false;
    bool sweep = false;
    bool reset = false;
    bool retire = false;
    bool doubt = false;
    // Of the peer, to an exchange.
    struct Answer {
      Hello::Type to = Hello::Type::kOpen;
      uint64_t epoch = 0;
      int64_t took_ns = 0;
      Result<Bytes> answer;
    };
    std::vector<Answer> answers;
  } mail;

 private:
  void count_in();

  const std::shared_ptr<Initiator> initiator_;
  const std::shared_ptr<const Offer> offer_;
  const size_t card_;
  const Peer peer_;
  const std::shared_ptr<Identity> identity_;
  std::shared_ptr<Group> group_;
  size_t place_ = 0;
};

}  // namespace te::fabric
