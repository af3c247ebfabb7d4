#include "transport/tcp/liveness.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace te::tcp {
namespace {

// A silent connection is probed after this, and as often: one whose peer vanished while nothing is
// under way, or after it acknowledged a request, is found out within the stall timeout and this.
constexpr int kKeepAliveS = 2;

}  // namespace

void watch_peer(int fd, uint64_t stall_timeout_ms) {
  const auto user_timeout = static_cast<unsigned>(stall_timeout_ms);
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof user_timeout);
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &kKeepAliveS, sizeof kKeepAliveS);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &kKeepAliveS, sizeof kKeepAliveS);
}

bool unheard(int fd, unsigned retransmissions) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
  return info.tcpi_retransmits >= retransmissions;
}

}  // namespace te::tcp
