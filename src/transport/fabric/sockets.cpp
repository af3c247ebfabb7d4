#include "transport/fabric/sockets.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/fd.h"

namespace te::fabric {
namespace {

constexpr int kMostTried = 4096;  // where the descriptors in use cannot be listed

bool same(const sockaddr_storage& a, const sockaddr_storage& b) {
  if (a.ss_family != b.ss_family) return false;
  if (a.ss_family == AF_INET) {
    const auto& x = reinterpret_cast<const sockaddr_in&>(a);
    const auto& y = reinterpret_cast<const sockaddr_in&>(b);
    return x.sin_port != 0 && x.sin_port == y.sin_port && x.sin_addr.s_addr == y.sin_addr.s_addr;
  }
  if (a.ss_family != AF_INET6) return false;
  const auto& x = reinterpret_cast<const sockaddr_in6&>(a);
  const auto& y = reinterpret_cast<const sockaddr_in6&>(b);
  return x.sin6_port != 0 && x.sin6_port == y.sin6_port &&
         std::memcmp(&x.sin6_addr, &y.sin6_addr, sizeof x.sin6_addr) == 0;
}

bool is_connected_to(int fd, const sockaddr_storage& wanted) {
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  return ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0 && same(peer, wanted);
}

std::vector<int> open_descriptors() {
  std::vector<int> found;
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) {
    for (int fd = STDERR_FILENO + 1; fd < kMostTried; ++fd) found.push_back(fd);
    return found;
  }
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this function's own
  while (const dirent* entry = ::readdir(directory)) found.push_back(std::atoi(entry->d_name));
  ::closedir(directory);
  return found;
}

}  // namespace

size_t shut_down_connections(std::string_view address) {
  sockaddr_storage wanted{};
  std::memcpy(&wanted, address.data(), std::min(address.size(), sizeof wanted));
  if (wanted.ss_family != AF_INET && wanted.ss_family != AF_INET6) return 0;
  size_t count = 0;
  for (const int fd : open_descriptors()) {
    if (fd <= STDERR_FILENO || !is_connected_to(fd, wanted)) continue;
    // A copy stays what it is, even if another thread closes the original now, and the number goes
    // to another file.
    const Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    const int mine = copy.valid() ? copy.get() : fd;
    if (!is_connected_to(mine, wanted)) continue;
    ::shutdown(mine, SHUT_RDWR);
    ++count;
  }
  return count;
}

}  // namespace te::fabric
