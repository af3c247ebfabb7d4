// One way to a peer over NICs: a NIC here and one there.
//
// Threads: as Path; what needs the progress lock says so.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "core/batch.h"
#include "core/path.h"
#include "core/schedule.h"
#include "transport/rails/advertisement.h"
#include "transport/rails/key.h"
#include "transport/transport.h"

namespace te::rails {

class PeerRails;
class RailEngine;

// Then nothing more is posted on one rail: a peer that is slow, or lost, holds up what is cancelled
// no longer than it takes for these. A NIC of 400 Gb/s takes 670 us for them, many round trips.
inline constexpr uint64_t kMostBytesUnderWay = 32 << 20;

class Rail : public Path, public std::enable_shared_from_this<Rail> {
 public:
  Rail(Transport& owner, RailEngine& through, const std::string& device,
       std::shared_ptr<const Advertisement> advertised, const Peer& peer, size_t local_nic,
       size_t remote_nic)
      : Path(owner, device, advertised->nics[remote_nic].device, peer.to_string()),
        engine(through),
        to(peer),
        local(local_nic),
        remote(remote_nic),
        advertisement(std::move(advertised)) {}

  // Any rail to the peer will do.
  bool reaches(const std::byte* key) const override;
  bool moves(MemoryKind local_kind, const void* at, MemoryKind remote_kind,
             const std::byte* key) const override;
  bool over() const override;

  // Before anything else. `place` is this one's among the peer's rails.
  void join(std::shared_ptr<PeerRails> peer_rails, size_t place) {
    rails_ = std::move(peer_rails);
    place_ = place;
  }
  // All rails to the peer; null: this is the only one.
  const std::shared_ptr<PeerRails>& rails() const { return rails_; }
  size_t place() const { return place_; }

  RailEngine& engine;
  const Peer to;
  const size_t local, remote;                                // NICs
  const std::shared_ptr<const Advertisement> advertisement;  // of the peer

  // As Key::find(), through the remote NIC.
  bool find_key(const std::byte* key, uint64_t address, uint64_t length, Key::Place* place) const {
    return Key::find(key, remote, advertisement->pieces, address, length, place);
  }

  // With the engine's progress lock:
  SliceList queue;       // not posted yet
  bool wanted = false;   // to be connected, whether there are slices or not
  bool known = false;    // to the engine
  bool active = false;   // among those with something that waits
  bool retired = false;  // nobody posts any more

 protected:
  // As `over`: nothing goes to this run of the peer again.
  std::atomic<bool> gone_{false};

 private:
  std::shared_ptr<PeerRails> rails_;
  size_t place_ = 0;
};

}  // namespace te::rails
