#include "engine/known_topology.h"

#include "platform/topology.h"

namespace te {

Status KnownTopology::discover() {
  Result<Topology> topology = read_topology();
  if (!topology.ok()) return topology.status();
  TE_RETURN_IF_ERROR(keep_nics(nics_, *topology).with_context("setting nics"));
  MutexLock lock(mutex_);
  topology_ = std::make_shared<const Topology>(topology.take());
  return {};
}

Result<std::shared_ptr<const Topology>> KnownTopology::get() {
  for (;;) {
    {
      MutexLock lock(mutex_);
      if (topology_) return topology_;
    }
    TE_RETURN_IF_ERROR(discover());
  }
}

}  // namespace te
