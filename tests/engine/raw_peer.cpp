#include "engine/raw_peer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/socket.h"
#include "support/facts.h"

namespace te::test {

RawConnection::RawConnection(const std::string& endpoint, int receive_buffer) {
  const Result<HostPort> where = parse_host_port(endpoint);
  if (!where.ok()) return;
  const Result<std::vector<SocketAddress>> addresses = resolve_host(where->host, where->port);
  if (!addresses.ok()) return;
  const SocketAddress& address = addresses->front();
  Fd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (receive_buffer > 0) {
    // Before it connects, so that the window is no larger either.
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  }
  if (::connect(fd.get(), address.get(), address.length) != 0 && errno != EINPROGRESS) return;
  pollfd entry{fd.get(), POLLOUT, 0};
  if (::poll(&entry, 1, 5'000) == 1 && socket_error(fd.get()) == 0) fd_ = std::move(fd);
}

bool RawConnection::send(std::string_view bytes, int limit_ms) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
      continue;
    }
    pollfd entry{fd_.get(), POLLOUT, 0};
    if (errno != EAGAIN || ::poll(&entry, 1, limit_ms) != 1) return false;
  }
  return true;
}

std::string RawConnection::receive(size_t length, int limit_ms) {
  const Stopwatch watch;
  std::string result;
  while (result.size() < length) {
    pollfd entry{fd_.get(), POLLIN, 0};
    const int64_t left = limit_ms - watch.ms();
    if (left <= 0 || ::poll(&entry, 1, static_cast<int>(left)) != 1) break;
    char bytes[4096];
    const ssize_t got =
        ::recv(fd_.get(), bytes, std::min(sizeof bytes, length - result.size()), MSG_DONTWAIT);
    if (got <= 0) break;
    result.append(bytes, static_cast<size_t>(got));
  }
  return result;
}

bool RawConnection::ended_by_peer(int limit_ms) {
  const Stopwatch watch;
  for (;;) {
    pollfd entry{fd_.get(), POLLIN, 0};
    const int64_t left = limit_ms - watch.ms();
    if (left <= 0 || ::poll(&entry, 1, static_cast<int>(left)) != 1) return false;
    char bytes[65536];
    const ssize_t got = ::recv(fd_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return true;
  }
}

std::string data_hello(uint64_t session) {
  wire::Hello hello;
  hello.kind = wire::ChannelKind::kTcpData;
  hello.instance = 77;
  hello.session = session;
  hello.epoch = 1;
  return encoded(hello);
}

std::string control_request(wire::ControlType type, std::string_view body, uint64_t claimed) {
  wire::ControlHeader header;
  header.type = type;
  header.id = 1;
  header.length = claimed;
  return encoded(header) + std::string(body);
}

std::string request_frame(tcp::RequestType type, uint16_t count, uint64_t payload, uint64_t address,
                          uint32_t length, const AccessKey& key) {
  std::string frame(tcp::RequestHeader::kSize + count * tcp::RequestEntry::kSize, '\0');
  auto* at = reinterpret_cast<std::byte*>(frame.data());
  tcp::RequestHeader{type, count, payload}.encode(at);
  at += tcp::RequestHeader::kSize;
  std::byte key_bytes[AccessKey::kSize];
  key.encode(key_bytes);
  for (uint16_t i = 0; i < count; ++i, at += tcp::RequestEntry::kSize) {
    tcp::RequestEntry::encode(at, address, length, key_bytes);
  }
  return frame;
}

tcp::AnswerHeader receive_answer(RawConnection& connection) {
  const std::string bytes = connection.receive(tcp::AnswerHeader::kSize);
  if (bytes.size() < tcp::AnswerHeader::kSize) {
    tcp::AnswerHeader none;
    none.type = static_cast<tcp::AnswerType>(0);
    return none;
  }
  return tcp::AnswerHeader::decode(reinterpret_cast<const std::byte*>(bytes.data()));
}

}  // namespace te::test
