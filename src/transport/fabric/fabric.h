// The libfabric transport: AWS's EFA cards, and every other provider with reliable datagram
// endpoints and remote memory access.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/options.h"
#include "core/topology.h"
#include "transport/transport.h"

namespace te {

// Whether `name` is "efa" or "fabric:PROVIDER".
bool is_fabric_transport(std::string_view name);
// `matrix`: which cards serve what memory, as far as that is known.
Result<std::unique_ptr<Transport>> make_fabric_transport(TransportHost& host, const Config& config,
                                                         std::string_view name,
                                                         const NicMatrix& matrix);
// efa, and what else could serve on this machine.
std::vector<TransportInfo> describe_fabric_transports(const Config& config);

}  // namespace te
