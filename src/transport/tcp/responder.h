// One TCP connection on the side that answers: carries out what a peer asks, after checking it.
// Whatever the peer sends, it holds a bounded amount of memory.
//
// Threads: its loop only.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/socket.h"
#include "core/access_table.h"
#include "core/wire.h"
#include "transport/tcp/answer_sender.h"
#include "transport/tcp/request_receiver.h"

namespace te::tcp {

class Responder;

class ResponderOwner {
 public:
  virtual ~ResponderOwner() = default;
  // The connection is of no use any more: the owner destroys it, not from inside this call.
  virtual void responder_ended(Responder& responder) = 0;
  // A connection had to end, since memory that a peer asked for could not be read in the middle of
  // the answer. For a while after that, all are to look before they promise bytes.
  virtual void found_unreadable() {}
  virtual bool careful() { return false; }
};

class Responder final : public EventLoop::Handler {
 public:
  Responder(EventLoop& loop, AccessTable& table, ResponderOwner& owner, tls::Connection connection,
            const wire::Hello& hello, std::shared_ptr<void> permit);
  ~Responder() override;

  // Answers the hello and begins to serve, or refuses and ends.
  void admit(uint64_t instance);
  void refuse(uint64_t instance, Code code);
  // Ends when the peer stopped in the middle of something since before `before_ns`.
  void end_if_stalled(int64_t before_ns);
  // Ends when the peer would not be let in any more, or its rights were changed.
  void end_if_refused(int64_t now_ns);
  // Ends when nothing is under way, and nothing was since `before_ns`. The peer connects again when
  // it needs to; what it sends at this moment, it repeats there.
  void end_if_idle(int64_t before_ns);
  // When bytes came or went last; any thread.
  int64_t used_ns() const { return progress_ns_.load(std::memory_order_relaxed); }
  const SocketAddress& peer() const { return peer_; }

  const wire::Hello& hello() const { return hello_; }
  EventLoop& loop() { return loop_; }

  void on_events(uint32_t events) override;
  bool worth_polling() const override {
    return !answers_.in_the_middle() && !requests_.in_payload();
  }
  bool poll() override;

 private:
  bool receive();  // whether bytes came
  bool flush();    // false: ended
  void made_progress();
  void end(std::string_view why);

  EventLoop& loop_;
  ResponderOwner& owner_;
  tls::Connection connection_;
  const SocketAddress peer_;
  const wire::Hello hello_;
  const std::shared_ptr<void> permit_;
  bool ended_ = false;
  bool hangup_ = false;
  bool admitted_ = false;
  std::atomic<int64_t> progress_ns_{0};
  AnswerSender answers_;
  RequestReceiver requests_;
};

}  // namespace te::tcp
