#include "base/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

#include "base/clock.h"
#include "base/log.h"

namespace te {
namespace {

Result<uint16_t> parse_port(std::string_view text, std::string_view whole) {
  unsigned value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size() || value > 65535 || text.empty()) {
    return error(Code::kInvalidArgument,
                 "'{}' in '{}' is not a port: give a number from 0 to 65535", text, whole);
  }
  return static_cast<uint16_t>(value);
}

// With or without a zone, such as "fe80::1%eth0".
bool is_ipv6(std::string_view text) {
  const size_t percent = text.find('%');
  if (percent != std::string_view::npos && percent + 1 == text.size()) return false;
  in6_addr ignored;
  return ::inet_pton(AF_INET6, std::string(text.substr(0, percent)).c_str(), &ignored) == 1;
}

bool same_host(const sockaddr* a, const sockaddr* b) {
  if (a->sa_family != b->sa_family) return false;
  if (a->sa_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(a)->sin_addr.s_addr ==
           reinterpret_cast<const sockaddr_in*>(b)->sin_addr.s_addr;
  }
  return a->sa_family == AF_INET6 &&
         std::memcmp(&reinterpret_cast<const sockaddr_in6*>(a)->sin6_addr,
                     &reinterpret_cast<const sockaddr_in6*>(b)->sin6_addr, sizeof(in6_addr)) == 0;
}

Result<Fd> try_listen(const SocketAddress& address, int backlog) {
  Fd fd = Fd::open([&] {
    return ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  });
  if (!fd.valid()) {
    return error(Code::kResource, "cannot make a socket to listen on {}: {}", address.to_string(),
                 errno_text(errno));
  }
  const int on = 1, off = 0;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address.storage.ss_family == AF_INET6) {
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  }
  if (::bind(fd.get(), address.get(), address.length) != 0 || ::listen(fd.get(), backlog) != 0) {
    if (errno == EADDRINUSE) {
      return error(Code::kAlreadyExists,
                   "port {} is in use ({}): choose another, or 0 for any free one", address.port(),
                   address.to_string());
    }
    return error(Code::kResource, "cannot listen on {}: {}", address.to_string(),
                 errno_text(errno));
  }
  return fd;
}

SocketAddress any_address(int family, uint16_t port) {
  SocketAddress address;
  address.storage.ss_family = static_cast<sa_family_t>(family);
  if (family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(&address.storage)->sin6_port = htons(port);
    address.length = sizeof(sockaddr_in6);
  } else {
    reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port = htons(port);
    address.length = sizeof(sockaddr_in);
  }
  return address;
}

}  // namespace

std::string SocketAddress::host() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (storage.ss_family == AF_INET6) {
    const auto& in6 = reinterpret_cast<const sockaddr_in6&>(storage).sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&in6)) {
      ::inet_ntop(AF_INET, in6.s6_addr + 12, text, sizeof text);
    } else {
      ::inet_ntop(AF_INET6, &in6, text, sizeof text);
    }
    const uint32_t zone = reinterpret_cast<const sockaddr_in6&>(storage).sin6_scope_id;
    char interface[IF_NAMESIZE] = "";
    if (IN6_IS_ADDR_LINKLOCAL(&in6) && zone != 0 && ::if_indextoname(zone, interface) != nullptr) {
      return fmt::format("{}%{}", text, interface);
    }
  } else if (storage.ss_family == AF_INET) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(storage).sin_addr, text,
                sizeof text);
  }
  return text;
}

uint16_t SocketAddress::port() const {
  if (storage.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6&>(storage).sin6_port);
  }
  return ntohs(reinterpret_cast<const sockaddr_in&>(storage).sin_port);
}

std::string SocketAddress::to_string() const { return join_host_port(host(), port()); }

std::string join_host_port(std::string_view host, uint16_t port) {
  if (host.find(':') != std::string_view::npos) return fmt::format("[{}]:{}", host, port);
  return fmt::format("{}:{}", host, port);
}

Result<HostPort> parse_host_port(std::string_view text) {
  HostPort result;
  std::string_view port;
  if (text.starts_with('[')) {
    const size_t close = text.find(']');
    if (close == std::string_view::npos || (close + 1 < text.size() && text[close + 1] != ':')) {
      return error(Code::kInvalidArgument, "'{}' is not an address: expected '[ipv6]:port'", text);
    }
    result.host = text.substr(1, close - 1);
    result.has_port = close + 1 < text.size();
    if (result.has_port) port = text.substr(close + 2);
  } else if (const size_t colon = text.find(':');
             colon != std::string_view::npos &&
             text.find(':', colon + 1) == std::string_view::npos) {
    result.host = text.substr(0, colon);
    result.has_port = true;
    port = text.substr(colon + 1);
  } else {
    result.host = text;  // no colon, or a bare IPv6 address
  }
  if (result.host.empty()) {
    return error(Code::kInvalidArgument, "'{}' has no host: expected 'host:port'", text);
  }
  const bool bracketed = text.starts_with('[');
  if ((bracketed || result.host.find(':') != std::string::npos) && !is_ipv6(result.host)) {
    return error(Code::kInvalidArgument,
                 "'{}' is not an address: '{}' in it is not an IPv6 address; expected 'host:port' "
                 "or '[ipv6]:port'",
                 text, result.host);
  }
  if (result.host.find_first_of("[]") != std::string::npos) {
    return error(Code::kInvalidArgument, "'{}' is not an address: expected '[ipv6]:port'", text);
  }
  if (result.has_port) {
    Result<uint16_t> number = parse_port(port, text);
    if (!number.ok()) return number.status();
    result.port = *number;
  }
  return result;
}

Result<std::vector<SocketAddress>> resolve_host(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int rc = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (rc != 0) {
    return error(Code::kUnavailable, "cannot resolve host '{}': {}", host, ::gai_strerror(rc));
  }
  std::vector<SocketAddress> result;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    SocketAddress address;
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.length = entry->ai_addrlen;
    result.push_back(address);
  }
  ::freeaddrinfo(list);
  if (result.empty()) {
    return error(Code::kUnavailable, "host '{}' has no address", host);
  }
  return result;
}

bool is_numeric_address(const std::string& host) {
  in_addr ignored;
  return ::inet_pton(AF_INET, host.c_str(), &ignored) == 1 || is_ipv6(host);
}

bool is_loopback(const sockaddr* address) {
  if (address == nullptr) return false;
  if (address->sa_family == AF_INET) {
    const in_addr_t host = reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr;
    return (ntohl(host) >> 24) == 127;
  }
  return address->sa_family == AF_INET6 &&
         IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
}

bool is_local_address(const SocketAddress& address) {
  const sockaddr* wanted = address.get();
  if (is_loopback(wanted)) return true;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return false;
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(list, &::freeifaddrs);
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr != nullptr && same_host(entry->ifa_addr, wanted)) return true;
  }
  return false;
}

std::vector<InterfaceAddress> all_interface_addresses() {
  std::vector<InterfaceAddress> result;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return result;
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(list, &::freeifaddrs);
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr) continue;
    const int family = entry->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    SocketAddress address;
    address.length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    std::memcpy(&address.storage, entry->ifa_addr, address.length);
    result.push_back({entry->ifa_name, address.host(), (entry->ifa_flags & IFF_UP) != 0,
                      (entry->ifa_flags & IFF_LOOPBACK) != 0});
  }
  return result;
}

std::string local_address_towards(const SocketAddress& remote) {
  Fd fd =
      Fd::open([&] { return ::socket(remote.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0); });
  if (!fd.valid() || ::connect(fd.get(), remote.get(), remote.length) != 0) return {};
  return local_address(fd.get()).host();
}

Result<Fd> listen_tcp(const std::string& host, uint16_t port, int backlog) {
  if (!host.empty()) {
    Result<std::vector<SocketAddress>> addresses = resolve_host(host, port);
    if (!addresses.ok()) return addresses.status();
    return try_listen(addresses->front(), backlog);
  }
  // A machine without IPv6 refuses the family or the address; a taken port is the same for both.
  Result<Fd> both = try_listen(any_address(AF_INET6, port), backlog);
  if (both.ok() || both.code() == Code::kAlreadyExists) return both;
  return try_listen(any_address(AF_INET, port), backlog);
}

Result<Fd> start_connect(const SocketAddress& address) {
  Fd fd = Fd::open([&] {
    return ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  });
  if (!fd.valid()) {
    return error(is_shortage(errno) ? Code::kResource : Code::kUnavailable,
                 "cannot make a socket to reach {}: {}", address.to_string(), errno_text(errno));
  }
  set_no_delay(fd.get());
  if (::connect(fd.get(), address.get(), address.length) != 0 && errno != EINPROGRESS) {
    // EAGAIN: no local port is free.
    const bool shortage = is_shortage(errno) || errno == EAGAIN;
    return error(shortage ? Code::kResource : Code::kUnavailable, "cannot connect to {}: {}",
                 address.to_string(), errno_text(errno));
  }
  return fd;
}

int socket_error(int fd) {
  int value = 0;
  socklen_t length = sizeof value;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length) != 0) return errno;
  return value;
}

SocketAddress local_address(int fd) {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (::getsockname(fd, address.get(), &address.length) != 0) address.length = 0;
  return address;
}

SocketAddress peer_address(int fd) {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (::getpeername(fd, address.get(), &address.length) != 0) address.length = 0;
  return address;
}

void set_no_delay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int send_buffer_in_cache(int64_t l2_bytes) {
  constexpr int64_t kUnknown = 1 << 20, kLeast = 256 << 10, kMost = 2 << 20;
  // The kernel grants twice what is asked for.
  return static_cast<int>(std::clamp((l2_bytes > 0 ? l2_bytes : kUnknown) / 2, kLeast, kMost));
}

void keep_in_cache(int fd, size_t least) {
  const SocketAddress here = local_address(fd);
  if (here.length == 0 || here.host() != peer_address(fd).host()) return;
  static const int fitting = send_buffer_in_cache(::sysconf(_SC_LEVEL2_CACHE_SIZE));
  const int bytes = std::max(fitting, static_cast<int>(least));
  // Above the system's limit only with privilege; else up to the limit.
  if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0) {
    ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  }
}

Status wait_for(int fd, short events, int64_t deadline_ns) {
  for (;;) {
    const int64_t left = deadline_ns - now_ns();
    if (left <= 0) {
      return error(Code::kTimeout, "no answer from {} before the deadline",
                   peer_address(fd).to_string());
    }
    pollfd entry{fd, events, 0};
    const int rc =
        ::poll(&entry, 1, static_cast<int>(std::min<int64_t>(left / kNsPerMs + 1, 1'000'000)));
    if (rc > 0) return {};
    if (rc < 0 && errno != EINTR) return error(Code::kResource, "poll: {}", errno_text(errno));
  }
}

Result<BlockingStream> BlockingStream::connect(const SocketAddress& address, int64_t deadline_ns) {
  const int64_t limit_ms = std::max<int64_t>(deadline_ns - now_ns(), 0) / kNsPerMs;
  Result<Fd> fd = start_connect(address);
  if (!fd.ok()) return fd.status();
  BlockingStream stream(fd.take());
  if (Status status = wait_for(stream.fd(), POLLOUT, deadline_ns); !status.ok()) {
    if (status.code() != Code::kTimeout) return status;
    return error(Code::kUnavailable, "cannot connect to {}: no answer within {} ms",
                 address.to_string(), limit_ms);
  }
  if (const int failure = socket_error(stream.fd()); failure != 0) {
    return error(Code::kUnavailable, "cannot connect to {}: {}", address.to_string(),
                 errno_text(failure));
  }
  return stream;
}

Status BlockingStream::send_all(std::string_view bytes, int64_t deadline_ns) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      TE_RETURN_IF_ERROR(wait_for(fd_.get(), POLLOUT, deadline_ns));
    } else if (errno != EINTR) {
      return error(Code::kUnavailable, "connection lost while sending: {}", errno_text(errno));
    }
  }
  return {};
}

Status BlockingStream::receive_exact(std::span<char> into, int64_t deadline_ns) {
  while (!into.empty()) {
    const ssize_t got = ::recv(fd_.get(), into.data(), into.size(), 0);
    if (got > 0) {
      into = into.subspan(static_cast<size_t>(got));
    } else if (got == 0) {
      return Status(Code::kUnavailable, "the peer closed the connection");
    } else if (errno == EAGAIN) {
      TE_RETURN_IF_ERROR(wait_for(fd_.get(), POLLIN, deadline_ns));
    } else if (errno != EINTR) {
      return error(Code::kUnavailable, "connection lost while receiving: {}", errno_text(errno));
    }
  }
  return {};
}

}  // namespace te
