// The settings of TLS, as an engine uses them.
#pragma once

#include <memory>

#include "base/options.h"
#include "tls/credentials.h"
#include "transfer_engine/status.h"

namespace te {

// Null with security = off. kInvalidArgument: settings that contradict each other or are not
// enough, and files that are missing or wrong.
Result<std::shared_ptr<tls::Identity>> load_identity(const Config& config);

}  // namespace te
