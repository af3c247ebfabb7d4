// One TCP connection on the side that sends requests.
//
// Threads: enqueue() and flush() from any; the sender is whoever finds nobody sending, so a request
// usually leaves from the caller's own thread. Everything that receives, and the end of the lane,
// is the loop's.
#pragma once

#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/socket.h"
#include "core/batch.h"
#include "core/wire.h"
#include "transport/tcp/frame.h"
#include "transport/tcp/stream.h"
#include "transport/transport.h"

namespace te::tcp {

// A list of slices, linked by `next`.
struct SliceList {
  Slice* first = nullptr;
  Slice* last = nullptr;

  bool empty() const { return first == nullptr; }
  void push(Slice* slice) {
    slice->next = nullptr;
    (first == nullptr ? first : last->next) = slice;
    last = slice;
  }
  Slice* pop() {
    Slice* slice = first;
    first = slice->next;
    if (first == nullptr) last = nullptr;
    return slice;
  }
  void append(SliceList& other) {
    if (other.empty()) return;
    (first == nullptr ? first : last->next) = other.first;
    last = other.last;
    other = {};
  }
};

class Lane;

// What a lane tells its path, on the lane's loop.
class LaneOwner {
 public:
  virtual ~LaneOwner() = default;
  virtual void lane_ready(Lane& lane) = 0;
  // The connection is of no use any more; the owner calls fail() on every lane of the session.
  virtual void lane_broken(Lane& lane, Status why) = 0;
};

struct LaneOptions {
  uint64_t connect_timeout_ms = 0;
  uint64_t stall_timeout_ms = 0;
};

class Lane final : public EventLoop::Handler, public std::enable_shared_from_this<Lane> {
 public:
  Lane(EventLoop& loop, TransportHost& host, std::shared_ptr<Path> path, LaneOwner& owner,
       const LaneOptions& options)
      : loop_(loop), host_(host), path_(std::move(path)), owner_(owner), options_(options) {}

  // Begins to connect; any thread. lane_ready() or lane_broken() follows.
  void connect(const SocketAddress& address, const wire::Hello& hello);
  // Any thread, once ready. False, and nothing taken, when the lane is closed.
  bool enqueue(SliceList& slices, uint64_t bytes);
  void flush();
  // Flushes on the lane's loop.
  void flush_later();
  // Bytes handed over and not answered.
  uint64_t load() const { return load_.load(std::memory_order_relaxed); }
  // On the loop: gives back what is cancelled and not under way. Any thread.
  void sweep();
  // Closes the connection and returns every slice as `code`. Any thread; idempotent.
  void fail(Code code);
  EventLoop& loop() { return loop_; }

  void on_events(uint32_t events) override;

 private:
  // A request that was sent, until it is answered. Written by the sender before `tail_` moves over
  // it, then the loop's.
  struct Sent {
    Slice* slice = nullptr;
    uint32_t length = 0;
    Opcode opcode = Opcode::kRead;
    bool answered = false;
  };

  // The loop's.
  void start_connect(const SocketAddress& address, const wire::Hello& hello);
  void continue_hello();
  void receive();
  bool parse();  // false: broken
  bool on_ack(uint64_t sequence);
  bool on_data(const AnswerHeader& header);
  bool on_error(const AnswerHeader& header);
  void finish_payload();
  void answer(Sent& sent, Code code);
  void advance_head();
  bool left_completely(uint64_t sequence);
  void broken(Status why);
  bool sweep_sent();
  void close(Code code);

  // The sender's.
  bool build_frame();
  bool send_frame();  // false: the socket is full, or the connection is gone
  void send_all();
  bool has_work() const;

  Sent& sent(uint64_t sequence) { return ring_[sequence % kWindow]; }

  EventLoop& loop_;
  TransportHost& host_;
  const std::shared_ptr<Path> path_;
  LaneOwner& owner_;
  const LaneOptions options_;

  Fd fd_;
  std::atomic<uint64_t> load_{0};

  Mutex queue_mutex_;
  SliceList queue_ TE_GUARDED_BY(queue_mutex_);
  bool closed_ TE_GUARDED_BY(queue_mutex_) = false;
  std::atomic<uint64_t> queued_{0};

  // Who holds `sending_` is the sender.
  std::atomic<bool> sending_{false};
  std::atomic<bool> blocked_{true};  // the socket is full, or not connected yet
  std::atomic<bool> frame_open_{false};
  size_t vector_count_ = 0;
  size_t vector_at_ = 0;
  std::array<iovec, 1 + kMaxRequestsPerFrame> vectors_;
  std::array<std::byte, kMaxFrameHead> head_;

  std::array<Sent, kWindow> ring_;
  std::atomic<uint64_t> tail_{0};           // next sequence number; moved by the sender
  std::atomic<uint64_t> sent_tail_{0};      // all below left completely; moved by the sender
  std::atomic<uint64_t> head_sequence_{0};  // oldest not answered; moved by the loop

  // The loop's.
  enum class Phase { kConnecting, kHello, kReady, kBroken, kClosed };
  Phase phase_ = Phase::kConnecting;
  std::string hello_out_;
  size_t hello_sent_ = 0;
  Stream stream_;
  bool hangup_ = false;
  uint64_t ack_cursor_ = 0;
  uint64_t payload_first_ = 0;  // sequence of the first READ whose bytes arrive
  uint32_t payload_count_ = 0;
  uint64_t answered_count_ = 0;
  uint64_t answered_at_sweep_ = UINT64_MAX;
};

}  // namespace te::tcp
