#include "limits/ping_pong.h"

#include <sys/socket.h>

#include <cerrno>

namespace te::bench {
namespace {

using Clock = std::chrono::steady_clock;

bool send_all(const Socket& socket, std::span<const std::byte> bytes, bool spin) {
  while (!bytes.empty()) {
    const ssize_t count =
        ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | (spin ? MSG_DONTWAIT : 0));
    if (count > 0) {
      bytes = bytes.subspan(static_cast<size_t>(count));
    } else if (count == 0 || (errno != EINTR && errno != EAGAIN)) {
      return false;
    }
  }
  return true;
}

bool receive_all(const Socket& socket, std::span<std::byte> bytes, bool spin) {
  while (!bytes.empty()) {
    const ssize_t count =
        recv(socket.get(), bytes.data(), bytes.size(), spin ? MSG_DONTWAIT : MSG_WAITALL);
    if (count > 0) {
      bytes = bytes.subspan(static_cast<size_t>(count));
    } else if (count == 0 || (errno != EINTR && errno != EAGAIN)) {
      return false;
    }
  }
  return true;
}

// The next `length` bytes in rotation.
template <typename Byte>
std::span<Byte> block(std::span<Byte> bytes, uint64_t length, uint64_t round) {
  return bytes.subspan(round % (bytes.size() / length) * length, length);
}

}  // namespace

Exchanged answer_pings(const Socket& socket, const PingPong& shape,
                       std::span<const std::byte> source, std::span<std::byte> sink) {
  Exchanged result;
  while (receive_all(socket, block(sink, shape.there, result.rounds), shape.spin)) {
    if (!send_all(socket, block(source, shape.back, result.rounds), shape.spin)) return result;
    ++result.rounds;
  }
  result.ok = true;
  return result;
}

Exchanged send_pings(const Socket& socket, const PingPong& shape, std::span<const std::byte> source,
                     std::span<std::byte> sink, std::chrono::milliseconds window,
                     tool::Histogram& round_trip_ns) {
  Exchanged result;
  Clock::time_point now = Clock::now();
  const Clock::time_point end = now + window;
  while (now < end) {
    if (!send_all(socket, block(source, shape.there, result.rounds), shape.spin) ||
        !receive_all(socket, block(sink, shape.back, result.rounds), shape.spin)) {
      return result;
    }
    ++result.rounds;
    const Clock::time_point after = Clock::now();
    round_trip_ns.record(static_cast<uint64_t>((after - now).count()));
    now = after;
  }
  result.ok = true;
  return result;
}

}  // namespace te::bench
