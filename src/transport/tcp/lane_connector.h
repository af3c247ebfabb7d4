// How a lane connects to its peer, and is let in. A peer that has no room, and a process that has
// no descriptor, are tried again until the time to connect is over.
//
// Threads: one at a time, whoever holds the lane's receiver lock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/connect_retry.h"
#include "base/fd.h"
#include "base/socket.h"
#include "core/batch.h"
#include "core/wire.h"
#include "tls/connection.h"
#include "transport/tcp/stream.h"

namespace te::tcp {

class LaneConnector {
 public:
  enum class Step {
    kWaiting,  // for the peer
    kLetIn,
    kLost,     // see why(); another attempt may help
    kRefused,  // see why(); none helps
  };

  // `path` is there for longer.
  explicit LaneConnector(const Path& path) : path_(path) {}

  // Once. No attempt begins after `deadline_ns`.
  void begin(const SocketAddress& address, const wire::Hello& hello, int64_t deadline_ns);
  // Begins an attempt to connect. The socket's events tell when advance() is due.
  Result<Fd> attempt();
  // Sends the hello and takes the answer from `stream`, as far as possible now.
  Step advance(tls::Connection& connection, Stream& stream);
  // Whether the attempt has led to a connection.
  bool connected() const { return connected_; }
  // How many requests the peer allows; after kLetIn.
  uint32_t window() const { return window_; }

  // An attempt failed: in how many milliseconds the next one is due, or -1, to give up.
  int64_t retry_ms(Status why, int64_t now);
  // How the last attempt ended; ok: there was none.
  const Status& why() const { return why_; }

 private:
  Step lost(std::string_view why);
  Step refused(Status why);
  Step insecure(const tls::Connection& connection);
  Step take_answer(Stream& stream);

  const Path& path_;
  SocketAddress address_;
  std::optional<ConnectRetry> retry_;
  std::string hello_;
  size_t hello_sent_ = 0;
  bool connected_ = false;
  uint32_t window_ = 0;
  Status why_;
};

}  // namespace te::tcp
