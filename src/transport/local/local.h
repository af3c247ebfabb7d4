// Copies inside one engine: the source and the target are both its own.
#pragma once

#include <memory>

#include "base/options.h"
#include "transport/transport.h"

namespace te {

Result<std::unique_ptr<Transport>> make_local_transport(TransportHost& host, const Config& config);

}  // namespace te
