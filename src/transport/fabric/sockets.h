// The sockets that a provider opened for an endpoint, and does not name.
//
// Threads: any.
#pragma once

#include <cstddef>
#include <set>

#include "base/open_sockets.h"

namespace te::fabric {

// Shuts down every connection of this process to one of these addresses, and returns how many there
// were. What arrived before can still be read from them; then they end, as if the peer had closed
// them. They stay open: closing them is for their owner.
size_t shut_down_connections(const std::set<AddressKey>& addresses);

}  // namespace te::fabric
