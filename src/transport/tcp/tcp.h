// The TCP transport: connections, the threads that serve them, and what peers may touch.
#pragma once

#include <memory>

#include "base/options.h"
#include "transport/transport.h"

namespace te {

Result<std::unique_ptr<Transport>> make_tcp_transport(TransportHost& host, const Config& config);

}  // namespace te
