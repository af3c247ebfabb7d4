// The connections that an engine's port serves, for each network, and which newcomers are admitted.
// Any thread.
#pragma once

#include <cstddef>
#include <map>
#include <memory>

#include "base/mutex.h"
#include "engine/newcomers.h"

namespace te {

class Inbound {
 public:
  using Network = Newcomers::Network;

  // What becomes of one more connection from a network. One network gets three quarters of the
  // connections at most. Whoever comes beyond that gets the place of a connection of its own
  // network, and where all are taken, of a network that has more than its own.
  struct Admission {
    bool has_its_share = false;  // more than that
    bool free = false;           // nobody has to make place
  };

  explicit Inbound(size_t limit) : limit_(limit) {}

  Admission admission(const Network& network) const {
    MutexLock lock(mutex_);
    const bool has_its_share = count(network) >= limit_ - limit_ / 4;
    return {has_its_share, !has_its_share && total_ < limit_};
  }
  // Whether a connection of `other` may end for the newcomer.
  bool makes_place(const Network& other, const Network& network, const Admission& admission) const {
    if (admission.has_its_share) return other == network;
    MutexLock lock(mutex_);
    return count(other) > count(network);
  }
  // Counts one as long as the answer lives.
  static std::shared_ptr<void> permit(const std::shared_ptr<Inbound>& inbound,
                                      const Network& network) {
    {
      MutexLock lock(inbound->mutex_);
      ++inbound->counts_[network];
      ++inbound->total_;
    }
    return std::shared_ptr<void>(nullptr, [inbound, network](void*) {
      MutexLock lock(inbound->mutex_);
      const auto found = inbound->counts_.find(network);
      if (--found->second == 0) inbound->counts_.erase(found);
      --inbound->total_;
    });
  }

 private:
  size_t count(const Network& network) const TE_REQUIRES(mutex_) {
    const auto found = counts_.find(network);
    return found == counts_.end() ? 0 : found->second;
  }

  const size_t limit_;
  mutable Mutex mutex_;
  std::map<Network, size_t> counts_ TE_GUARDED_BY(mutex_);
  size_t total_ TE_GUARDED_BY(mutex_) = 0;
};

}  // namespace te
