// The sockets that a provider opened for an endpoint, and does not name.
//
// Threads: any.
#pragma once

#include <cstddef>
#include <string_view>

namespace te::fabric {

// Shuts down every connection of this process to `address`, a sockaddr of IPv4 or IPv6, and returns
// how many there were. What arrived before can still be read from them; then they end, as if the
// peer had closed them. They stay open: closing them is for their owner.
size_t shut_down_connections(std::string_view address);

}  // namespace te::fabric
