#include "base/open_sockets.h"

#include <dirent.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace te {
namespace {

constexpr int kMostTried = 4096;  // where the descriptors in use cannot be listed

// The port and the address go behind the family.
AddressKey make_key(sa_family_t family, in_port_t port, const void* address, size_t length) {
  AddressKey key{};
  if (port == 0) return key;
  key[0] = static_cast<char>(family);
  std::memcpy(&key[2], &port, sizeof port);
  std::memcpy(&key[4], address, length);
  return key;
}

}  // namespace

AddressKey address_key(const SocketAddress& address) {
  if (address.storage.ss_family == AF_INET && address.length >= sizeof(sockaddr_in)) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address.storage);
    return make_key(AF_INET, v4.sin_port, &v4.sin_addr, sizeof v4.sin_addr);
  }
  if (address.storage.ss_family == AF_INET6 && address.length >= sizeof(sockaddr_in6)) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address.storage);
    return make_key(AF_INET6, v6.sin6_port, &v6.sin6_addr, sizeof v6.sin6_addr);
  }
  return {};
}

AddressKey address_key(std::string_view address) {
  SocketAddress parsed;
  parsed.length = static_cast<socklen_t>(std::min(address.size(), sizeof parsed.storage));
  std::memcpy(&parsed.storage, address.data(), parsed.length);
  return address_key(parsed);
}

std::vector<int> list_descriptors() {
  std::vector<int> found;
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) {
    for (int fd = STDERR_FILENO + 1; fd < kMostTried; ++fd) found.push_back(fd);
    return found;
  }
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this function's own
  while (const dirent* entry = ::readdir(directory)) {
    const int fd = std::atoi(entry->d_name);  // 0: "." and ".."
    if (fd > STDERR_FILENO && fd != ::dirfd(directory)) found.push_back(fd);
  }
  ::closedir(directory);
  return found;
}

}  // namespace te
