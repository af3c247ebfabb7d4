// Two connected sockets: what is tested has one, the test plays the peer at the other.
//
// One thread.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <string>
#include <string_view>

#include "base/fd.h"
#include "tls/connection.h"

namespace te::tcp::test {

class SocketPair {
 public:
  SocketPair() {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    ours = tls::Connection(Fd(fds[0]));
    peers = Fd(fds[1]);
  }

  // From the peer, all of it.
  void put(std::string_view bytes) {
    ASSERT_EQ(::send(peers.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // What the peer was sent until now.
  std::string take() {
    std::string out;
    char buffer[65536];
    for (;;) {
      const ssize_t got = ::recv(peers.get(), buffer, sizeof buffer, 0);
      if (got <= 0) return out;
      out.append(buffer, static_cast<size_t>(got));
    }
  }

  tls::Connection ours;
  Fd peers;
};

}  // namespace te::tcp::test
