// The TCP connections that this process accepted, made deaf: what their peers send is dropped, as
// if the network had lost it, and comes later, when the kernel of the peer sends it again.
//
// Threads: one. Nobody else accepts or closes connections while an object is made.
#pragma once

#include <fcntl.h>
#include <linux/filter.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/open_sockets.h"

namespace te::test {

class DeafSockets {
 public:
  // But for those whose local port is `left_alone`.
  explicit DeafSockets(uint16_t left_alone) {
    const std::vector<int> open = list_descriptors();
    std::set<uint16_t> listening;
    for (const int fd : open) {
      int is = 0;
      socklen_t size = sizeof is;
      if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is, &size) == 0 && is != 0) {
        listening.insert(local_address(fd).port());
      }
    }
    listening.erase(left_alone);
    for (const int fd : open) {
      const SocketAddress local = local_address(fd), peer = peer_address(fd);
      if (address_key(peer) == AddressKey{} || !listening.contains(local.port())) continue;
      // A copy keeps the socket when its owner closes it.
      Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
      sock_filter drop_all{BPF_RET | BPF_K, 0, 0, 0};
      const sock_fprog program{1, &drop_all};
      if (::setsockopt(copy.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0) {
        continue;
      }
      sockets_.push_back({std::move(copy), local.port(), peer.port()});
    }
  }

  size_t count() const { return sockets_.size(); }
  // The peers send again what was dropped.
  void hear() {
    const int unused = 0;
    for (const Socket& each : sockets_) {
      ::setsockopt(each.copy.get(), SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
    }
  }
  // Whether one of the peers' kernels has bytes that were not received yet.
  bool is_awaited() const {
    std::ifstream file("/proc/net/tcp");
    std::string line;
    while (std::getline(file, line)) {
      std::istringstream fields(line);
      std::string number, local, remote, state, queues;
      fields >> number >> local >> remote >> state >> queues;
      const bool unsent = !queues.starts_with("00000000:");
      const bool ours = std::any_of(sockets_.begin(), sockets_.end(), [&](const Socket& each) {
        return port_of(local) == each.peer_port && port_of(remote) == each.port;
      });
      if (ours && unsent) return true;
    }
    return false;
  }

 private:
  struct Socket {
    Fd copy;
    uint16_t port;
    uint16_t peer_port;
  };
  // "0100007F:1F90"
  static uint16_t port_of(const std::string& address) {
    const size_t colon = address.find(':');
    if (colon == std::string::npos) return 0;
    return static_cast<uint16_t>(std::strtoul(address.c_str() + colon + 1, nullptr, 16));
  }

  std::vector<Socket> sockets_;
};

}  // namespace te::test
