// Owns nothing; any thread enters.
#include "directory/p2p.h"

#include "base/log.h"
#include "base/socket.h"
#include "directory/connection.h"

namespace te {
namespace {

class P2pDirectory final : public Directory {
 public:
  std::string describe() const override { return "peer to peer, no server"; }

  Status publish(std::string_view, const Locator&,
                 const std::function<bool(const Locator&)>&) override {
    return {};
  }

  Status withdraw(std::string_view) override { return {}; }

  Result<Locator> resolve(std::string_view name) override {
    constexpr std::string_view kExpected =
        "without a metadata server a segment is named 'host:port', or '[ipv6]:port'";
    const Result<HostPort> address = parse_host_port(name);
    if (!address.ok() || !is_host(address->host)) {
      return error(Code::kInvalidArgument, "'{}' is not an address: {}", printable(name),
                   kExpected);
    }
    if (!address->has_port) {
      return error(Code::kInvalidArgument, "'{}' has no port to connect to: {}", printable(name),
                   kExpected);
    }
    if (address->port == 0) {
      return error(Code::kInvalidArgument, "port 0 in '{}' cannot be connected to: {}",
                   printable(name), kExpected);
    }
    return Locator{address->host, address->port, 0};
  }

  bool asks_a_server() const override { return false; }

  std::string local_address() const override { return {}; }
};

}  // namespace

std::unique_ptr<Directory> make_p2p_directory() { return std::make_unique<P2pDirectory>(); }

}  // namespace te
