// Accepts the connections of a listening socket on an event loop, and keeps its head when the
// process has no file descriptor left: who connects is then refused instead of left without an
// answer, and the loop does not spin.
//
// Threads: the loop's own. The owner stops the loop before it destroys the acceptor.
#pragma once

#include "base/event_loop.h"
#include "base/fd.h"

namespace te {

class Acceptor final : public EventLoop::Handler {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    // Whether to accept now. If not, connections wait in the kernel's queue until resume().
    virtual bool has_room() = 0;
    virtual void accepted(Fd connection) = 0;
    // There is no descriptor for this connection: it is closed when this returns.
    virtual void refuse(Fd connection) = 0;
  };

  // `what` names the socket in the log.
  Acceptor(EventLoop& loop, Owner& owner, const char* what)
      : loop_(loop), owner_(owner), what_(what) {}

  // Begins to accept. Before the loop starts.
  Status start(Fd listening);
  // The owner has room again.
  void resume() { loop_.again(this); }
  // No connection is accepted any more. After the loop stopped.
  void close();
  int descriptor() const { return listening_.get(); }

  void on_events(uint32_t events) override;

 private:
  // False: nothing more can be done now.
  bool accept_one();
  bool refuse_one();
  bool take_reserve();
  void pause();

  EventLoop& loop_;
  Owner& owner_;
  const char* const what_;
  Fd listening_;
  Fd reserve_;  // given up for a moment, to accept and refuse a connection in its place
  bool paused_ = false;
  int64_t pause_ms_ = 0;
};

}  // namespace te
