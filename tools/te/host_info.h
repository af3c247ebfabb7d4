// What `te info` finds out about this machine without an engine. Pure questions to the system; one
// thread at a time.
#pragma once

#include <string>
#include <vector>

namespace te::tool {

struct HostAddress {
  std::string interface;
  std::string address;
  bool up = false;
  bool loopback = false;
};

// Of every interface, IPv4 and IPv6, in the system's order.
std::vector<HostAddress> host_addresses();

struct LibraryInfo {
  std::string name;
  std::string used_for;
  bool found = false;
  std::string detail;  // its path, or why it could not be opened
};

// The library of this project that the command runs with, then the vendors' libraries that
// transports open at run time. Opens each to see. `rdma_library`, `fabric_library`: these settings;
// empty: the system's.
std::vector<LibraryInfo> libraries(const std::string& rdma_library,
                                   const std::string& fabric_library);

}  // namespace te::tool
