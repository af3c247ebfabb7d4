// The RDMA transport: InfiniBand and RoCE cards, by libibverbs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/options.h"
#include "core/topology.h"
#include "transport/transport.h"

namespace te {

// What the transport has to know of this machine.
struct RdmaPlaces {
  std::vector<std::string> devices;  // that may be used, best first
  NicMatrix matrix;                  // which of them serve what memory
  // The memory nodes of a range, each with where its part begins, ascending; empty: not known.
  std::function<std::vector<std::pair<uint64_t, uint32_t>>(uint64_t address, uint64_t length)>
      nodes_of;
};

Result<std::unique_ptr<Transport>> make_rdma_transport(TransportHost& host, const Config& config,
                                                       RdmaPlaces places);
// Whether it could serve here, and what was found or not.
TransportInfo describe_rdma_transport(const Config& config);

}  // namespace te
