// One TCP connection on the side that sends requests.
//
// Threads: enqueue() and flush() from any; the sender is whoever finds nobody sending, so a request
// usually leaves from the caller's own thread. Answers are taken by the loop, or by a thread that
// makes progress: see TcpPath::progress(). fail() comes before the last reference goes.
#pragma once

#include <sys/epoll.h>
#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/connect_retry.h"
#include "base/event_loop.h"
#include "base/socket.h"
#include "core/batch.h"
#include "core/wire.h"
#include "transport/tcp/frame.h"
#include "transport/tcp/stream.h"
#include "transport/tcp/zero_copy.h"
#include "transport/transport.h"

namespace te::tcp {

class Lane;

// What a lane tells its path, from whichever thread found out.
class LaneOwner {
 public:
  virtual ~LaneOwner() = default;
  virtual void lane_ready(Lane& lane) = 0;
  // The socket is full: a caller that makes progress has to look for room too.
  virtual void lane_blocked() {}
  // The connection is of no use any more; the owner calls fail() on every lane of the session.
  virtual void lane_broken(Lane& lane, Status why) = 0;
  // The lane breaks, since the memory of a WRITE could not be read after some of its frame left.
  // For a while after that, all lanes are to look before they send.
  virtual void found_unreadable() {}
  virtual bool careful() { return false; }
};

struct LaneOptions {
  uint64_t connect_timeout_ms = 0;
  uint64_t stall_timeout_ms = 0;
  ZeroCopyMode zero_copy = ZeroCopyMode::kOff;
  std::shared_ptr<ZeroCopyTotals> zero_copy_totals = nullptr;  // unless off
};

class Lane final : public EventLoop::Handler, public std::enable_shared_from_this<Lane> {
 public:
  Lane(EventLoop& loop, TransportHost& host, std::shared_ptr<Path> path, LaneOwner& owner,
       const LaneOptions& options)
      : loop_(loop), host_(host), path_(std::move(path)), owner_(owner), options_(options) {}

  // More than this under way comes in bulk, not at any moment.
  static constexpr uint64_t kPollBytes = 1 << 20;

  // Begins to connect; any thread. lane_ready() or lane_broken() follows. While the peer has no
  // room, or this process no descriptor, it tries again within connect_timeout_ms.
  void connect(const SocketAddress& address, const wire::Hello& hello);
  // Any thread, once ready. False, and nothing taken, when the lane is closed.
  bool enqueue(SliceList& slices, uint64_t bytes);
  void flush();
  // Flushes if there is something to send and room for it.
  void continue_sending();
  // Sends an empty request, once nothing else waits to be sent; an answer counts in acks().
  void ask();
  uint64_t acks() const { return acks_.load(std::memory_order_relaxed); }
  // Flushes on the lane's loop.
  void flush_later();
  // Whether the loop looks for answers and for room; while it is detached, a caller that makes
  // progress does. Any thread.
  void attach() { listen_for(EPOLLIN | EPOLLOUT); }
  void detach() { listen_for(0); }
  // The socket is full, or not connected yet; what waits to be sent waits for room().
  bool blocked() const { return blocked_.load(); }
  // There is room: goes on sending. Any thread.
  void room();
  // By a caller that makes progress: takes the answers that are here. True when requests were
  // answered, or the lane is of no use any more.
  bool take_answers();
  // To sleep on; -1 when there is no connection. It is shut down before it is closed.
  int descriptor() const { return descriptor_.load(std::memory_order_relaxed); }
  // Bytes handed over and not answered.
  uint64_t load() const { return load_.load(std::memory_order_relaxed); }
  // On the loop: gives back what is cancelled, at once where it is not under way. Any thread.
  void sweep();
  // On the loop: breaks where the peer's kernel acknowledges nothing any more. Any thread.
  void check_alive();
  // Closes the connection and returns every slice as `code`, once the kernel reads none of their
  // memory. Any thread; idempotent.
  void fail(Code code);
  EventLoop& loop() { return loop_; }

  void on_events(uint32_t events) override;
  bool worth_polling() const override { return load() > 0 && load() <= kPollBytes; }
  bool poll() override { return load() > 0 && take_answers(); }

 private:
  // A request that was sent, until it is answered. Written by the sender before `tail_` moves over
  // it, then the receiver's.
  struct Sent {
    Slice* slice = nullptr;
    uint32_t length = 0;
    Opcode opcode = Opcode::kRead;
    bool answered = false;
    // Of a WRITE that failed while the kernel may hold its memory: it comes back with this.
    Code refusal = Code::kOk;
    uint64_t let_go_below = 0;  // see ZeroCopy; set by the sender once all of it left
  };

  void listen_for(uint32_t events);
  static Status lost(const Path& path, std::string_view why);
  // The loop's.
  void start_connect() TE_REQUIRES(receiving_);
  void continue_hello() TE_REQUIRES(receiving_);
  // The connection could not be made, or ended before the peer let it in.
  void retry_or_break(Status why) TE_REQUIRES(receiving_);
  void close(Code code) TE_REQUIRES(receiving_);
  void close_when_quiet(Code code, int64_t until_ns) TE_REQUIRES(receiving_);
  void return_everything(Code code) TE_REQUIRES(receiving_);
  // Of whoever receives.
  bool receive() TE_REQUIRES(receiving_);
  bool parse() TE_REQUIRES(receiving_);  // false: broken
  bool on_ack(uint64_t sequence) TE_REQUIRES(receiving_);
  bool on_data(const AnswerHeader& header) TE_REQUIRES(receiving_);
  bool on_error(const AnswerHeader& header) TE_REQUIRES(receiving_);
  void finish_payload() TE_REQUIRES(receiving_);
  void finish_writes() TE_REQUIRES(receiving_);
  void answer(Sent& sent, Code code) TE_REQUIRES(receiving_);
  void advance_head() TE_REQUIRES(receiving_);
  bool left_completely(uint64_t sequence);
  void broken(Status why) TE_REQUIRES(receiving_);
  void give_back_queued() TE_REQUIRES(receiving_);
  bool sweep_sent() TE_REQUIRES(receiving_);
  // Whether WRITEs under way, of which `first` is the oldest that is wanted back, may go on.
  bool may_finish(uint64_t first, uint64_t tail) TE_REQUIRES(receiving_);
  void resolve_fault() TE_REQUIRES(receiving_);
  bool leave_out_unreadable() TE_REQUIRES(receiving_);

  // The sender's.
  bool build_frame();
  void put_request(size_t index, const Slice& slice);
  void finish_head(Opcode opcode, size_t count, uint64_t bytes);
  // The frame's memory cannot be read: nothing is sent until the loop has seen to that.
  void frame_faulted();
  bool send_frame();  // false: the socket is full, or the connection is gone
  ssize_t send_vectors();
  void end_frame();
  void send_all();
  bool has_work() const;

  Sent& sent(uint64_t sequence) { return ring_[sequence % kWindow]; }

  EventLoop& loop_;
  TransportHost& host_;
  const std::shared_ptr<Path> path_;
  LaneOwner& owner_;
  const LaneOptions options_;

  Fd fd_;
  std::atomic<int> descriptor_{-1};
  std::atomic<uint64_t> load_{0};

  Mutex queue_mutex_;
  SliceList queue_ TE_GUARDED_BY(queue_mutex_);
  bool closed_ TE_GUARDED_BY(queue_mutex_) = false;
  std::atomic<uint64_t> queued_{0};
  std::atomic<bool> asking_{false};
  std::atomic<uint64_t> acks_{0};

  // Who holds `sending_` is the sender.
  std::atomic<bool> sending_{false};
  std::atomic<bool> blocked_{true};  // the socket is full, or not connected yet
  std::atomic<bool> frame_open_{false};
  size_t vector_count_ = 0;
  size_t vector_at_ = 0;
  std::array<iovec, 1 + kMaxRequestsPerFrame> vectors_;
  std::array<std::byte, kMaxFrameHead> head_;
  bool by_zero_copy_ = false;  // the frame goes by zero_copy_
  bool faulted_ = false;       // see frame_faulted()
  int faults_ = 0;             // of this frame

  std::atomic<uint32_t> window_{kWindow};  // what the peer takes, at most kWindow
  std::array<Sent, kWindow> ring_;
  std::atomic<uint64_t> tail_{0};           // next sequence number; moved by the sender
  std::atomic<uint64_t> sent_tail_{0};      // all below left completely; moved by the sender
  std::atomic<uint64_t> head_sequence_{0};  // oldest not answered; moved by the receiver

  ZeroCopy zero_copy_;  // the sender's and the receiver's

  // Who holds it is the receiver, and may end the lane. Taken before any other lock.
  Mutex receiving_;
  enum class Phase { kConnecting, kHello, kReady, kBroken, kClosed };
  Phase phase_ TE_GUARDED_BY(receiving_) = Phase::kConnecting;
  SocketAddress address_ TE_GUARDED_BY(receiving_);
  std::optional<ConnectRetry> retry_ TE_GUARDED_BY(receiving_);
  Status refused_ TE_GUARDED_BY(receiving_);  // how the last attempt to connect ended
  std::string hello_out_ TE_GUARDED_BY(receiving_);
  size_t hello_sent_ TE_GUARDED_BY(receiving_) = 0;
  Stream stream_ TE_GUARDED_BY(receiving_);
  bool hangup_ TE_GUARDED_BY(receiving_) = false;
  uint64_t acked_ TE_GUARDED_BY(receiving_) = 0;       // WRITEs below it are in place
  uint64_t ack_cursor_ TE_GUARDED_BY(receiving_) = 0;  // and those below it given back
  // Sequence of the first READ whose bytes arrive.
  uint64_t payload_first_ TE_GUARDED_BY(receiving_) = 0;
  uint32_t payload_count_ TE_GUARDED_BY(receiving_) = 0;
  uint64_t answered_count_ TE_GUARDED_BY(receiving_) = 0;
  // WRITEs below are given until then, once one of them is wanted back.
  uint64_t grace_below_ TE_GUARDED_BY(receiving_) = 0;
  int64_t grace_until_ns_ TE_GUARDED_BY(receiving_) = 0;
};

}  // namespace te::tcp
