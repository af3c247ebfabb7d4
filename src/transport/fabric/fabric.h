// The libfabric transport: AWS's EFA NICs, and every other provider with reliable datagram
// endpoints and remote memory access.
#pragma once

#include "transport/factory.h"

namespace te {

extern const TransportFactory kFabricFactory;

}  // namespace te
