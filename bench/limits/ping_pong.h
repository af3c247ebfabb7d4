// The limit of TCP latency: one message there and one back over a plain connection, with both ends
// either spinning on non-blocking sockets or asleep in recv().
//
// Each message lies in rotation in the memory, as the engine's blocks do. Threads: the two ends are
// different processes, one thread each.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>

#include "histogram.h"
#include "limits/connections.h"

namespace te::bench {

struct PingPong {
  bool spin = false;
  uint64_t there = 0;  // bytes of the message to the answering end
  uint64_t back = 0;
};

struct Exchanged {
  uint64_t rounds = 0;
  bool ok = false;  // the connection held
};

// Answers until the other end closes the connection: messages arrive in `sink`, answers are sent
// from `source`.
Exchanged answer_pings(const Socket& socket, const PingPong& shape,
                       std::span<const std::byte> source, std::span<std::byte> sink);
// Sends and awaits answers for `window`; the time of each round trip goes to `round_trip_ns`.
Exchanged send_pings(const Socket& socket, const PingPong& shape, std::span<const std::byte> source,
                     std::span<std::byte> sink, std::chrono::milliseconds window,
                     tool::Histogram& round_trip_ns);

}  // namespace te::bench
