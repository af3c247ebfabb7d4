// TCP sockets and addresses, IPv4 and IPv6. No function here keeps state.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "transfer_engine/status.h"

namespace te {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  // "10.0.0.1:80" or "[::1]:80".
  std::string to_string() const;
  // The address without the port and without brackets; of a link-local one with its zone:
  // "fe80::1%eth0".
  std::string host() const;
  uint16_t port() const;
};

struct HostPort {
  std::string host;  // without brackets
  uint16_t port = 0;
  bool has_port = false;
};

// "host", "host:port", "[v6]", "[v6]:port", or a bare IPv6 address.
Result<HostPort> parse_host_port(std::string_view text);
// "host:port", with brackets where the host is an IPv6 address.
std::string join_host_port(std::string_view host, uint16_t port);

// Blocks on name servers unless `host` is a numeric address.
Result<std::vector<SocketAddress>> resolve_host(const std::string& host, uint16_t port);
bool is_numeric_address(const std::string& host);
// Whether this machine has the address on one of its interfaces.
bool is_local_address(const SocketAddress& address);
// 127.0.0.0/8 or ::1; `address` may be null.
bool is_loopback(const sockaddr* address);

struct InterfaceAddress {
  std::string interface;
  std::string address;  // as SocketAddress::host()
  bool up = true;
  bool loopback = false;
};
std::vector<InterfaceAddress> all_interface_addresses();
// The local address from which `remote` is reached, or empty.
std::string local_address_towards(const SocketAddress& remote);

// A non-blocking listening socket; `host` empty means every address, both families. The error for a
// taken port names it.
Result<Fd> listen_tcp(const std::string& host, uint16_t port, int backlog);
// Begins a non-blocking connect; done when the socket becomes writable (socket_error tells how).
// kResource: descriptors, ports or memory lack now, so it may work later.
Result<Fd> start_connect(const SocketAddress& address);
int socket_error(int fd);
SocketAddress local_address(int fd);
SocketAddress peer_address(int fd);
void set_no_delay(int fd);
// Where both ends of a connection have one address, and so are on one machine: keeps what waits to
// be received small enough to stay in a core's second-level cache, but for `least` bytes. Elsewhere
// the kernel sizes its buffers itself.
void keep_in_cache(int fd, size_t least);
// What it asks for; `l2_bytes`: of a core; 0 or less: unknown.
int send_buffer_in_cache(int64_t l2_bytes);

// Waits until one of the events comes. kTimeout.
Status wait_for(int fd, short events, int64_t deadline_ns);

// A connected, non-blocking socket used with deadlines by one thread at a time.
class BlockingStream {
 public:
  static Result<BlockingStream> connect(const SocketAddress& address, int64_t deadline_ns);
  Status send_all(std::string_view bytes, int64_t deadline_ns);
  Status receive_exact(std::span<char> into, int64_t deadline_ns);
  int fd() const { return fd_.get(); }
  Fd release() { return std::move(fd_); }

 private:
  explicit BlockingStream(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

}  // namespace te
