// Copies between processes of one host: through mappings of memory that the target's engine
// allocated, across process memory otherwise.
#pragma once

#include "transport/factory.h"

namespace te {

extern const TransportFactory kShmFactory;

}  // namespace te
