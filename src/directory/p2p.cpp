// Owns nothing; any thread enters.
#include "directory/p2p.h"

#include "base/log.h"
#include "base/socket.h"
#include "directory/connection.h"

namespace te {
namespace {

// The port of an address in which all but its number is right; else empty.
std::string_view port_out_of_range(std::string_view name) {
  const size_t colon = name.rfind(':');
  if (colon == std::string_view::npos) return {};
  const std::string_view port = name.substr(colon + 1);
  if (port.empty() || port.find_first_not_of("0123456789") != std::string_view::npos) return {};
  const Result<HostPort> address = parse_host_port(name);
  if (address.ok()) return address->has_port && address->port == 0 ? port : std::string_view();
  const Result<HostPort> other = parse_host_port(std::string(name.substr(0, colon)) + ":1");
  return other.ok() && other->has_port && is_host(other->host) ? port : std::string_view();
}

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
    if (const std::string_view port = port_out_of_range(name); !port.empty()) {
      return error(Code::kInvalidArgument, "port {} in '{}' is out of range: give 1 to 65535; {}",
                   port, printable(name), kExpected);
    }
    if (!address.ok() || !is_host(address->host)) {
      return error(Code::kInvalidArgument, "'{}' is not an address: {}", printable(name),
                   kExpected);
    }
    if (!address->has_port) {
      return error(Code::kInvalidArgument, "'{}' has no port to connect to: {}", printable(name),
                   kExpected);
    }
    return Locator{address->host, address->port, 0};
  }

  bool asks_a_server() const override { return false; }

  std::string local_address() const override { return {}; }
};

}  // namespace

std::unique_ptr<Directory> make_p2p_directory() { return std::make_unique<P2pDirectory>(); }

}  // namespace te
