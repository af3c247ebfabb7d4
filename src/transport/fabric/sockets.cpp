#include "transport/fabric/sockets.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "base/fd.h"

namespace te::fabric {

size_t shut_down_connections(const std::set<AddressKey>& addresses) {
  const auto is_connected = [&addresses](int fd) {
    const AddressKey peer = address_key(peer_address(fd));
    return peer != AddressKey{} && addresses.contains(peer);
  };
  size_t count = 0;
  for (const int fd : list_descriptors()) {
    if (!is_connected(fd)) continue;
    // A copy stays what it is, even if another thread closes the original now, and the number goes
    // to another file.
    const Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    const int mine = copy.valid() ? copy.get() : fd;
    if (!is_connected(mine)) continue;
    ::shutdown(mine, SHUT_RDWR);
    ++count;
  }
  return count;
}

}  // namespace te::fabric
