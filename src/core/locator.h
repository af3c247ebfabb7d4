// Where an engine is reached, and the run of it that is meant.
#pragma once

#include <cstdint>
#include <string>

namespace te {

struct Locator {
  std::string host;  // an address or a host name; IPv6 without brackets
  uint16_t port = 0;
  uint64_t instance = 0;  // the run of the process; 0: not known (any)

  bool operator==(const Locator&) const = default;
};

}  // namespace te
