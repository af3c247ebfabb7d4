#include "limits/connections.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace te::bench {
namespace {

constexpr int kAcceptMs = 5'000;

Status failed(const char* what) {
  return Status(Code::kResource, fmt::format("{}: {}", what, std::strerror(errno)));
}

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

void set_no_delay(const Socket& socket) {
  const int on = 1;
  setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

Result<Socket> listen_on_loopback(uint16_t* port) {
  Socket listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = loopback(0);
  socklen_t length = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (listener.get() < 0 || bind(listener.get(), generic, length) != 0 ||
      listen(listener.get(), 64) != 0 || getsockname(listener.get(), generic, &length) != 0) {
    return failed("cannot listen on 127.0.0.1");
  }
  *port = ntohs(address.sin_port);
  return listener;
}

Result<std::vector<Socket>> accept_connections(const Socket& listener, size_t count) {
  std::vector<Socket> result;
  while (result.size() < count) {
    pollfd entry{listener.get(), POLLIN, 0};
    const int ready = poll(&entry, 1, kAcceptMs);
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return Status(Code::kTimeout, "nobody connected to a limit program");
    Socket socket(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (socket.get() < 0) return failed("accept");
    set_no_delay(socket);
    result.push_back(std::move(socket));
  }
  return result;
}

Result<std::vector<Socket>> connect_to_loopback(uint16_t port, size_t count) {
  std::vector<Socket> result;
  for (size_t i = 0; i < count; ++i) {
    Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = loopback(port);
    if (socket.get() < 0 ||
        connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      return failed("cannot connect to a limit program");
    }
    set_no_delay(socket);
    result.push_back(std::move(socket));
  }
  return result;
}

}  // namespace te::bench
