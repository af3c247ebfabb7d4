// One TCP connection on the side that sends requests.
//
// Threads: enqueue() and flush() from any, see LaneSender. Answers are taken by the loop, or by a
// caller that makes progress: see TcpPath::progress(). fail() comes before the last reference goes.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/mutex.h"
#include "base/socket.h"
#include "core/batch.h"
#include "core/wire.h"
#include "tls/connection.h"
#include "tls/credentials.h"
#include "transport/tcp/lane_connector.h"
#include "transport/tcp/lane_owner.h"
#include "transport/tcp/lane_receiver.h"
#include "transport/tcp/lane_requests.h"
#include "transport/tcp/lane_sender.h"
#include "transport/tcp/zero_copy.h"
#include "transport/transport.h"

namespace te::tcp {

struct LaneOptions {
  uint64_t connect_timeout_ms = 0;
  uint64_t stall_timeout_ms = 0;
  ZeroCopyMode zero_copy = ZeroCopyMode::kOff;
  std::shared_ptr<ZeroCopyTotals> zero_copy_totals = nullptr;  // unless off
  std::shared_ptr<tls::Identity> identity = nullptr;           // with TLS
};

class Lane final : public EventLoop::Handler, public std::enable_shared_from_this<Lane> {
 public:
  Lane(EventLoop& loop, TransportHost& host, std::shared_ptr<Path> path, LaneOwner& owner,
       const LaneOptions& options);

  // More than this under way comes in bulk, not at any moment.
  static constexpr uint64_t kPollBytes = 1 << 20;

  // Begins to connect; any thread. lane_ready() or lane_broken() follows. While the peer has no
  // room, or this process no descriptor, it tries again within connect_timeout_ms.
  void connect(const SocketAddress& address, const wire::Hello& hello);
  // Any thread, once ready. False, and nothing taken, when the lane is closed.
  bool enqueue(SliceList& slices, uint64_t bytes) { return requests_.enqueue(slices, bytes); }
  void flush() { sender_.flush(); }
  // Flushes if there is something to send and room for it.
  void continue_sending() { sender_.continue_sending(); }
  // Sends an empty request, once nothing else waits to be sent; an answer counts in acks().
  void ask() { sender_.ask(); }
  uint64_t acks() const { return requests_.acks(); }
  // Flushes on the lane's loop.
  void flush_later();
  // Whether the loop looks for answers and for room; while it is detached, a caller that makes
  // progress does. Any thread.
  void attach() { listen_for(EPOLLIN | EPOLLOUT); }
  void detach() { listen_for(0); }
  // The socket is full, or not connected yet; what waits to be sent waits for room().
  bool blocked() const { return sender_.blocked(); }
  // There is room: goes on sending. Any thread.
  void room() { sender_.room(); }
  // By a caller that makes progress: takes the answers that are here. True when requests were
  // answered, or the lane is of no use any more.
  bool take_answers();
  // To sleep on; -1 when there is no connection. It is shut down before it is closed.
  int descriptor() const { return descriptor_.load(std::memory_order_relaxed); }
  // Bytes handed over and not answered.
  uint64_t load() const { return requests_.load(); }
  // On the loop: gives back what is cancelled, at once where it is not under way. Any thread.
  void sweep();
  // On the loop: breaks where the peer's kernel acknowledges nothing any more, or the peer would
  // not be let in any more. Any thread.
  void check_alive();
  // Closes the connection and returns every slice as `code`, once the kernel reads none of their
  // memory. Any thread; idempotent. Takes no memory.
  void fail(Code code);
  EventLoop& loop() { return loop_; }

  void on_events(uint32_t events) override;
  bool worth_polling() const override { return load() > 0 && load() <= kPollBytes; }
  bool poll() override { return load() > 0 && take_answers(); }

 private:
  enum class Phase { kConnecting, kReady, kBroken, kClosed };
  // What fail() hands to the loop, once.
  class End final : public EventLoop::LastTask {
   public:
    void run() override;

    std::atomic<bool> handed_over{false};
    std::shared_ptr<Lane> lane;  // from then until it ran
    Code code = Code::kOk;
  };

  Status lost(std::string_view why) const;
  void listen_for(uint32_t events);
  // The loop's.
  void start_connect() TE_REQUIRES(receiving_);
  void continue_connecting() TE_REQUIRES(receiving_);
  void let_in() TE_REQUIRES(receiving_);
  // The connection could not be made, or ended before the peer let it in.
  void retry_or_break(Status why) TE_REQUIRES(receiving_);
  void connect_timed_out();
  void resolve_fault();
  void close(Code code) TE_REQUIRES(receiving_);
  void close_when_quiet(Code code, int64_t until_ns) TE_REQUIRES(receiving_);
  // Of whoever receives. True: there may be more.
  bool receive() TE_REQUIRES(receiving_);
  void broken(Status why) TE_REQUIRES(receiving_);

  EventLoop& loop_;
  const std::shared_ptr<Path> path_;
  LaneOwner& owner_;
  const LaneOptions options_;

  tls::Connection connection_;
  std::atomic<int> descriptor_{-1};
  LaneRequests requests_;
  ZeroCopy zero_copy_;  // the sender's and the receiver's
  LaneSender sender_;

  // Who holds it is the receiver, and may end the lane. Taken before any other lock.
  Mutex receiving_{LockRank::kReceiving};
  Phase phase_ TE_GUARDED_BY(receiving_) = Phase::kConnecting;
  bool hangup_ TE_GUARDED_BY(receiving_) = false;
  LaneConnector connector_ TE_GUARDED_BY(receiving_);
  LaneReceiver receiver_ TE_GUARDED_BY(receiving_);
  End end_;
};

}  // namespace te::tcp
