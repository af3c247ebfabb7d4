// Copies between processes of one host: through mappings of memory that the target's engine
// allocated, across process memory otherwise.
#pragma once

#include <memory>
#include <string>

#include "base/options.h"
#include "transport/transport.h"

namespace te {

Result<std::unique_ptr<Transport>> make_shm_transport(TransportHost& host, const Config& config);
// Whether this machine lets processes share memory, and how. False: `*how` says what is missing.
bool shm_available(std::string* how);

}  // namespace te
