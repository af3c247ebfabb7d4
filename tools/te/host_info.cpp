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

// `symbol`: what the library has, so that another one of that name or path is not taken for it.
LibraryInfo probe_library(const char* name, const char* used_for, const char* symbol,
                          const std::string& path = {}) {
  LibraryInfo info{name, used_for, false, {}};
  const char* const opened = path.empty() ? name : path.c_str();
  void* const handle = dlopen(opened, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) {
    const char* const reason = dlerror();
    info.detail = reason == nullptr ? "cannot be opened" : reason;
    return info;
  }
  info.found = dlsym(handle, symbol) != nullptr;
  link_map* map = nullptr;
  if (dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr) info.detail = map->l_name;
  if (!info.found) info.detail += fmt::format(" has no {}, so it is another library", symbol);
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

std::vector<LibraryInfo> libraries(const std::string& rdma_library,
                                   const std::string& fabric_library) {
  return {
      probe_library("libtransfer_engine.so.0", "this command", "createTransferEngine"),
      probe_library("libibverbs.so.1", "rdma", "ibv_get_device_list", rdma_library),
      probe_library("libfabric.so.1", "efa", "fi_getinfo", fabric_library),
      probe_library("libcuda.so.1", "GPU memory", "cuInit"),
  };
}

}  // namespace te::tool
