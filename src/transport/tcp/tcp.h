// The TCP transport: connections, the threads that serve them, and what peers may touch.
#pragma once

#include "transport/factory.h"

namespace te {

extern const TransportFactory kTcpFactory;

}  // namespace te
