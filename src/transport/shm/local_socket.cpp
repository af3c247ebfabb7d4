#include "transport/shm/local_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "base/log.h"

namespace te::shm {
namespace {

constexpr int kPeerPidfd = 77;  // SO_PEERPIDFD, Linux 6.5: newer than some C libraries' headers

struct LocalAddress {
  sockaddr_un storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

LocalAddress address_of(uint64_t instance) {
  LocalAddress address;
  address.storage.sun_family = AF_UNIX;
  const std::string name = fmt::format("transfer-engine-{:016x}", instance);
  name.copy(address.storage.sun_path + 1, name.size());  // after a NUL: abstract
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

Fd local_socket() {
  return Fd::open(
      [] { return ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); });
}

// All descriptors that came along are taken, so that none leaks; more than one is a breach.
struct Descriptors {
  Fd first;
  size_t count = 0;
};

Descriptors take_descriptors(msghdr& head) {
  Descriptors taken;
  for (cmsghdr* item = CMSG_FIRSTHDR(&head); item != nullptr; item = CMSG_NXTHDR(&head, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(item) + i * sizeof(int), sizeof fd);
      Fd owned(fd);
      if (taken.count++ == 0) taken.first = std::move(owned);
    }
  }
  return taken;
}

}  // namespace

Result<Fd> listen_local(uint64_t instance) {
  Fd fd = local_socket();
  const LocalAddress address = address_of(instance);
  if (!fd.valid() || ::bind(fd.get(), address.get(), address.length) != 0 ||
      ::listen(fd.get(), SOMAXCONN) != 0) {
    return error(Code::kUnsupported, "cannot listen on a local socket: {}", errno_text(errno));
  }
  return fd;
}

Result<Fd> connect_local(uint64_t instance) {
  Fd fd = local_socket();
  if (!fd.valid()) {
    return error(Code::kResource, "cannot make a local socket: {}", errno_text(errno));
  }
  const LocalAddress address = address_of(instance);
  if (::connect(fd.get(), address.get(), address.length) == 0) return fd;
  // EAGAIN: more connections than the target's queue takes wait to be accepted.
  const Code code = errno == ECONNREFUSED ? Code::kNotFound
                    : errno == EAGAIN     ? Code::kBusy
                                          : Code::kUnavailable;
  return error(code, "cannot connect a local socket: {}", errno_text(errno));
}

std::string PeerProcess::name() const {
  return pid > 0 ? fmt::format("process {}", pid) : "a process of another pid namespace";
}

bool PeerProcess::exited() const {
  pollfd entry{pidfd.get(), POLLIN, 0};
  return ::poll(&entry, 1, 0) > 0;
}

Result<PeerProcess> peer_process(int socket, bool peer_initiates) {
  ucred who{};
  socklen_t length = sizeof who;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) {
    return error(Code::kPermission, "the kernel does not tell who is there: {}", errno_text(errno));
  }
  PeerProcess peer;
  peer.pid = std::max(who.pid, 0);
  const uid_t own = ::geteuid();
  const uid_t initiator = peer_initiates ? who.uid : own;
  if (who.uid != own && initiator != 0) {
    return error(Code::kPermission, "{} is of user {}, this one of {}", peer.name(), who.uid, own);
  }
  int pidfd = -1;
  socklen_t size = sizeof pidfd;
  if (::getsockopt(socket, SOL_SOCKET, kPeerPidfd, &pidfd, &size) == 0) {
    peer.pidfd = Fd(pidfd);
  } else if (peer.pid == 0) {
    return error(
        Code::kPermission,
        "the process is in another pid namespace, where only Linux 6.5 and later can watch "
        "it: let both share a pid namespace (docker run --pid, hostPID)");
  } else {
    peer.pidfd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0)));
  }
  if (!peer.pidfd.valid()) {
    return error(Code::kUnsupported, "cannot watch {}: {}", peer.name(), errno_text(errno));
  }
  return peer;
}

Status send_message(int socket, const Message& message, int descriptor) {
  std::array<char, Message::kSize> bytes = message.encode();
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr head{};
  head.msg_iov = &part;
  head.msg_iovlen = 1;
  if (descriptor >= 0) {
    head.msg_control = control;
    head.msg_controllen = sizeof control;
    cmsghdr* item = CMSG_FIRSTHDR(&head);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(item), &descriptor, sizeof descriptor);
  }
  ssize_t sent;
  do {
    sent = ::sendmsg(socket, &head, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent == static_cast<ssize_t>(bytes.size())) return {};
  return error(errno == EAGAIN ? Code::kBusy : Code::kUnavailable,
               "cannot send on the local socket: {}", errno_text(errno));
}

Result<std::optional<Received>> receive_message(int socket) {
  std::array<char, Message::kSize + 1> bytes{};
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
  msghdr head{};
  head.msg_iov = &part;
  head.msg_iovlen = 1;
  head.msg_control = control;
  head.msg_controllen = sizeof control;
  ssize_t got;
  do {
    got = ::recvmsg(socket, &head, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::optional<Received>();
  if (got < 0) {
    return error(Code::kUnavailable, "the local socket broke: {}", errno_text(errno));
  }
  Descriptors descriptors = take_descriptors(head);
  if (got == 0) return Status(Code::kUnavailable, "the peer closed the local socket");
  // Cut off without any: this process has no descriptor left for the one that came.
  const bool no_descriptor = (head.msg_flags & MSG_CTRUNC) != 0 && descriptors.count == 0;
  if (no_descriptor) {
    static LogLimit limit;
    log_limited(limit, LogLevel::kWarning, "shm: a peer's memory cannot be taken: {}",
                errno_text(EMFILE));
  } else if (descriptors.count > 1 || (head.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0) {
    return Status(Code::kProtocol, "a message with too much in it");
  }
  Result<Message> message = Message::decode(as_bytes({bytes.data(), static_cast<size_t>(got)}));
  if (!message.ok()) return message.status();
  return std::optional<Received>(Received{*message, std::move(descriptors.first)});
}

}  // namespace te::shm
