// Plain TCP connections over loopback, for the limit programs. Threads: one at a time per object.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "transfer_engine/status.h"

namespace te::bench {

class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket();

  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

// Listens on a free port of the loopback address.
Result<Socket> listen_on_loopback(uint16_t* port);
// Waits for `count` connections, five seconds for each.
Result<std::vector<Socket>> accept_connections(const Socket& listener, size_t count);
Result<std::vector<Socket>> connect_to_loopback(uint16_t port, size_t count);

}  // namespace te::bench
