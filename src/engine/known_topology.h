// The topology of this machine as an engine knows it.
//
// Threads: any.
#pragma once

#include <memory>
#include <string>

#include "base/mutex.h"
#include "core/topology.h"
#include "transfer_engine/status.h"

namespace te {

class KnownTopology {
 public:
  // `nics`: the setting, which outlives this.
  explicit KnownTopology(const std::string& nics) : nics_(nics) {}

  // Reads it again.
  Status discover();
  // As discovered, with the NICs that the setting allows; discovers it if need be.
  Result<std::shared_ptr<const Topology>> get();

 private:
  const std::string& nics_;
  Mutex mutex_{LockRank::kTopology};
  std::shared_ptr<const Topology> topology_ TE_GUARDED_BY(mutex_);
};

}  // namespace te
