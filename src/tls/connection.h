// One connection of the engine's port, with TLS or without: the one way in which bytes go to peers
// over TCP and come from them. send() and receive() are those of a non-blocking socket, also in
// errno; the handshake is made on the way. EPROTO: why() says what is wrong with the peer.
//
// Threads: one at a time until it is ready(). From then on one that sends and one that receives, at
// once.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/fd.h"
#include "base/mutex.h"
#include "tls/handshake.h"
#include "tls/principal.h"
#include "tls/record.h"

namespace te::tls {

class Connection {
 public:
  Connection();
  // Without TLS.
  explicit Connection(Fd fd);
  // With TLS if there is an identity.
  static Result<Connection> make(Fd fd, std::shared_ptr<Identity> identity, Role role);
  Connection(Connection&&) noexcept;
  Connection& operator=(Connection&&) noexcept;
  ~Connection();

  int fd() const { return fd_.get(); }
  bool valid() const { return fd_.valid(); }
  void close();
  Fd release() { return std::move(fd_); }
  bool secure() const { return tls_ != nullptr; }
  // How many bytes it gives to the socket at once, at most; 0: as many as it is given.
  size_t bulk_size() const;
  // The handshake is made, if one is due. On the side that connects, send() makes it; on the other,
  // receive().
  bool ready() const;
  // What ready() waits for.
  short wanted_events() const;
  const Status& why() const;
  // The peer does not speak TLS.
  bool peer_is_plain() const;
  // What a failed call's errno means here.
  std::string text_of(int error) const;
  // The peer, once ready, and what it may do here for as long as the connection lasts.
  Principal principal() const;
  // Not ok if the peer would not be let in any more, or may do something else than when it was:
  // looked at when files were exchanged and when it is due, in whatever thread receives.
  Status recheck(int64_t now_ns);

  // How many bytes were taken, or -1. What the socket does not take of a record at once is kept
  // here and goes first in the next call; the bytes in it count as taken only then, so that call
  // has to begin with them again.
  ssize_t send(const iovec* vectors, size_t count, int flags = 0);
  ssize_t send(std::string_view bytes, int flags = 0);
  // A part of what the next send() begins with cannot be taken back any more.
  bool committed() const;
  // Part of a record is here, and the rest is not.
  bool in_the_middle() const;
  // 0: the peer closed the connection.
  ssize_t receive(const iovec* vectors, size_t count);
  ssize_t receive(void* to, size_t most);

 private:
  struct Tls;

  Connection(Fd fd, std::unique_ptr<Tls> tls);

  Fd fd_;
  std::unique_ptr<Tls> tls_;
};

}  // namespace te::tls
