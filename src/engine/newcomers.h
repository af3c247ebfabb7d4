// Connections that have not said yet what they are: each has hello_timeout_ms for its hello, and
// all of them a bounded room.
//
// While the room is full, further connections wait in the kernel's queue. Room is made by those who
// leave it, and by closing some of those who were silent for 100 ms: those of the network that has
// the most of them, oldest first. So a peer that keeps many connections open in silence takes the
// room from itself, not from others. The time in the kernel's queue counts, so thousands that have
// waited there in silence do not keep out who comes after them, of the same address or another.
// What has arrived is read before a connection is closed.
//
// Threads: the loop's own.
#pragma once

#include <list>
#include <map>
#include <memory>

#include "base/event_loop.h"
#include "base/options.h"
#include "base/socket.h"
#include "core/wire.h"
#include "tls/connection.h"
#include "tls/credentials.h"

namespace te {

class Newcomers {
 public:
  // An IPv4 address, or the first half of an IPv6 one: what one peer may have many of.
  struct Network {
    int family = 0;
    uint64_t number = 0;
    auto operator<=>(const Network&) const = default;
  };
  static Network network_of(const SocketAddress& address);

  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void introduced(tls::Connection connection, const wire::Hello& hello) = 0;
    // Tells the peer why its connection is closed, as far as that is possible without waiting.
    virtual void refuse(tls::Connection& connection, Code code) = 0;
    // There is room again, after has_room() said no.
    virtual void room_again() = 0;
  };

  // With an identity: over TLS.
  Newcomers(EventLoop& loop, const Config& config, std::shared_ptr<tls::Identity> identity,
            Owner& owner);
  ~Newcomers();

  // Makes some if need be. If not, the owner hears when there is some.
  bool has_room();
  void add(Fd connection);
  // Closes those whose time is over.
  void check_times(int64_t now_ns);
  // After the loop stopped.
  void clear();

 private:
  class Newcomer;

  void drop(Newcomer& newcomer);
  // Reads what has arrived; true if the newcomer is still one.
  bool still_silent(Newcomer& newcomer);
  // Closes up to half of them.
  void make_room();

  EventLoop& loop_;
  const Config& config_;
  const std::shared_ptr<tls::Identity> identity_;
  Owner& owner_;
  std::list<std::unique_ptr<Newcomer>> all_;  // in order of arrival
  std::map<Network, size_t> counts_;
  bool waited_for_ = false;  // somebody found no room
};

}  // namespace te
