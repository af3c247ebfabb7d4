#include <arpa/inet.h>
#include <dlfcn.h>
#include <fmt/core.h>
#include <ifaddrs.h>
#include <link.h>
#include <net/if.h>
#include <netinet/in.h>

#include <array>

#include "host_info.h"

namespace te::tool {
namespace {

std::string address_text(const sockaddr* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address->sa_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
    inet_ntop(AF_INET, &v4->sin_addr, text.data(), text.size());
  } else if (address->sa_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
    inet_ntop(AF_INET6, &v6->sin6_addr, text.data(), text.size());
  }
  return text.data();
}

LibraryInfo probe_library(const char* name, const char* used_for) {
  LibraryInfo info{name, used_for, false, {}};
  void* const handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) {
    const char* const reason = dlerror();
    info.detail = reason == nullptr ? "cannot be opened" : reason;
    return info;
  }
  info.found = true;
  link_map* map = nullptr;
  if (dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr) info.detail = map->l_name;
  dlclose(handle);
  return info;
}

}  // namespace

std::vector<HostAddress> host_addresses() {
  std::vector<HostAddress> result;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return result;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr) continue;
    std::string address = address_text(entry->ifa_addr);
    if (address.empty()) continue;
    result.push_back({entry->ifa_name, std::move(address), (entry->ifa_flags & IFF_UP) != 0,
                      (entry->ifa_flags & IFF_LOOPBACK) != 0});
  }
  freeifaddrs(list);
  return result;
}

std::vector<LibraryInfo> libraries() {
  return {
      probe_library("libtransfer_engine.so.0", "this command"),
      probe_library("libibverbs.so.1", "rdma"),
      probe_library("libfabric.so.1", "efa"),
      probe_library("libcuda.so.1", "GPU memory"),
  };
}

}  // namespace te::tool
