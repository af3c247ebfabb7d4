// The descriptors that this process has open, whoever opened them, and the addresses of those that
// are IP sockets: for the sockets of other libraries, which do not name them.
//
// Threads: any; also in a child of fork() before fork() returns.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "base/socket.h"

namespace te {

// The family, the port and the address of IPv4 or IPv6, to compare. Of anything else, and without a
// port, all zero.
using AddressKey = std::array<char, 24>;
AddressKey address_key(const SocketAddress& address);
// The same of the bytes of a sockaddr.
AddressKey address_key(std::string_view address);

// All above stderr, as they are now. Where /proc is missing, those are included that could be open.
std::vector<int> list_descriptors();

}  // namespace te
