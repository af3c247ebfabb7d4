// All ways to one peer: every pair of a card here and a card there is a path, and slices that wait
// for the peer wait in one queue. What is done for it is the Mover's.
//
// Threads: as Path; what needs the mover's turn says so.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/path.h"
#include "transport/rails/path_queue.h"
#include "transport/rdma/endpoint.h"
#include "transport/rdma/message.h"
#include "transport/transport.h"

namespace te::rdma {

class RdmaPath final : public Path {
 public:
  RdmaPath(Transport& owner, PeerGroup& peer_group, size_t place, const std::string& device,
           const std::string& remote, const std::string& address)
      : Path(owner, device, remote, address), group(peer_group), index(place) {}

  // Any path of the group will do.
  bool reaches(const std::byte* key) const override;
  bool over() const override;

  PeerGroup& group;
  const size_t index;  // in the group
};

class PeerGroup : public std::enable_shared_from_this<PeerGroup> {
 public:
  PeerGroup(const Peer& to, Offer offered) : peer(to), offer(std::move(offered)) {}

  const Peer peer;
  const Offer offer;

  struct Link {
    size_t local = 0;   // card
    size_t remote = 0;  // card
    std::unique_ptr<RdmaPath> path;
    // With the turn.
    std::shared_ptr<Endpoint> endpoint;  // null: none
    bool wanted = false;                 // to be connected, whether there are slices or not
    int64_t proving_since_ns = 0;        // in however many tries; 0: it is not, or was not yet
  };
  // A local card's links stand together, the one to use first before the others. Constant, but for
  // what needs the turn.
  std::vector<Link> links;
  uint64_t remote_cards = 0;  // that links lead to; constant

  std::atomic<bool> gone{false};  // as `over`, for any thread
  // With the turn.
  rails::PathQueue queue;
  Code over = Code::kOk;  // else: nothing goes there again, and this is why
  // No path is left. What waited was returned, so that it goes another way; what is posted in spite
  // of it has no other way, and is kept until a path is back.
  bool dead = false;
  bool known = false;    // to the mover
  bool active = false;   // among those with something that waits
  bool in_line = false;  // waits for an endpoint
  bool granted = false;  // one is kept for it
  bool retired = false;  // nobody can post any more

  // Handed to the mover, not yet taken; guarded by its mailbox.
  struct Mail {
    bool queued = false;
    bool control_queued = false;
    SliceList slices;
    std::vector<size_t> connect;
    bool sweep = false;
    bool reset = false;
    bool retire = false;
  } mail;
};

inline bool RdmaPath::reaches(const std::byte* key) const {
  return (Key::nics_of(key) & group.remote_cards) != 0;
}
inline bool RdmaPath::over() const { return group.gone.load(); }

}  // namespace te::rdma
