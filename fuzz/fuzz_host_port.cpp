// Fuzzes the parser of addresses as people write them. What was accepted must be joined into a text
// that means the same.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/socket.h"
#include "require.h"

namespace {}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const te::Result<te::HostPort> parsed = te::parse_host_port(text);
  if (!parsed.ok()) {
    require(parsed.code() == te::Code::kInvalidArgument && !parsed.status().message().empty());
    return 0;
  }
  require(!parsed->host.empty() && (parsed->has_port || parsed->port == 0));
  const te::Result<te::HostPort> again =
      te::parse_host_port(te::join_host_port(parsed->host, parsed->port));
  require(again.ok() && again->host == parsed->host && again->port == parsed->port &&
          again->has_port);
  te::is_numeric_address(parsed->host);
  return 0;
}
