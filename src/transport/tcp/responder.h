// One TCP connection on the side that answers: carries out what a peer asks, after checking it.
// Whatever the peer sends, it holds a bounded amount of memory.
//
// Threads: its loop only.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/socket.h"
#include "core/access_table.h"
#include "core/wire.h"
#include "transport/tcp/frame.h"
#include "transport/tcp/stream.h"

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
  Responder(EventLoop& loop, AccessTable& table, ResponderOwner& owner, Fd connection,
            const wire::Hello& hello, std::shared_ptr<void> permit);
  ~Responder() override;

  // Answers the hello and begins to serve, or refuses and ends.
  void admit(uint64_t instance);
  void refuse(uint64_t instance, Code code);
  // Ends when the peer stopped in the middle of something since before `before_ns`.
  void end_if_stalled(int64_t before_ns);
  // Ends when nothing is under way, and nothing was since `before_ns`. The peer connects again when
  // it needs to; what it sends at this moment, it repeats there.
  void end_if_idle(int64_t before_ns);
  // When bytes came or went last; any thread.
  int64_t used_ns() const { return progress_ns_.load(std::memory_order_relaxed); }
  const SocketAddress& peer() const { return peer_; }

  const wire::Hello& hello() const { return hello_; }
  EventLoop& loop() { return loop_; }

  void on_events(uint32_t events) override;
  bool worth_polling() const override { return !answer_open_ && !stream_.in_payload(); }
  bool poll() override;

 private:
  struct Request {
    RequestEntry entry;
    uint64_t sequence = 0;
    Code code = Code::kOk;
  };

  bool receive();  // whether bytes came
  bool parse();    // false: ended
  bool start_frame(const RequestHeader& header);
  void start_write();
  void start_reads();
  void finish_write();
  Stream::Outcome receive_pinned();
  void pin_open_pieces();
  void unpin_pieces();
  void copy_buffered_pinned();

  bool flush();  // false: ended
  bool build_answer();
  bool send_answer(bool* full);
  bool leave_out_unreadable();
  bool refuse_unreadable(size_t count);
  void append_small(const AnswerHeader& header);
  bool output_full() const;
  void end(std::string_view why);

  EventLoop& loop_;
  AccessTable& table_;
  ResponderOwner& owner_;
  Fd fd_;
  const SocketAddress peer_;
  const wire::Hello hello_;
  const std::shared_ptr<void> permit_;
  bool ended_ = false;
  bool hangup_ = false;
  bool admitted_ = false;
  std::atomic<int64_t> progress_ns_{0};

  // In.
  Stream stream_;
  uint64_t next_sequence_ = 0;
  bool writing_ = false;
  std::vector<Request> frame_;  // the requests of the frame under way
  std::vector<AccessKey> pins_;

  // Out.
  bool ack_due_ = false;
  uint64_t ack_sequence_ = 0;
  uint64_t unacked_bytes_ = 0;
  std::string small_;          // answers without payload, whole
  std::deque<Request> reads_;  // asked for, not answered
  std::string head_;  // of the answer under way: small answers, then perhaps a kData header
  size_t head_sent_ = 0;
  size_t answer_reads_ = 0;   // how many of `reads_` the answer under way covers
  uint64_t answer_sent_ = 0;  // bytes of their payload
  uint64_t answer_bytes_ = 0;
  bool answer_open_ = false;
};

}  // namespace te::tcp
