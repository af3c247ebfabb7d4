// The calling side of the control channel: one connection to one engine, driven by an event loop.
// Requests leave as they come, and are answered in their order.
//
// Threads: the loop's alone. Nothing blocks. Every callback comes exactly once; where the
// connection is closed already, from inside the call.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/connect_retry.h"
#include "base/event_loop.h"
#include "base/socket.h"
#include "core/locator.h"
#include "core/wire.h"
#include "engine/control_channel.h"
#include "tls/connection.h"
#include "tls/credentials.h"

namespace te {

class ControlClient final : public ControlChannel,
                            public EventLoop::Handler,
                            public std::enable_shared_from_this<ControlClient> {
 public:
  using Connected = std::function<void(Status)>;

  // Keeps the clients of one loop alive while they are open.
  class Registry {
   public:
    // Every call is answered with `why`. The loop's.
    void close_all(const Status& why);

   private:
    friend class ControlClient;
    std::unordered_map<ControlClient*, std::shared_ptr<ControlClient>> open_;
  };

  struct Options {
    uint64_t own_instance = 0;
    uint64_t target_instance = 0;  // 0: whoever answers
    // For each address to connect and to answer the hello, and for each answer.
    std::chrono::milliseconds timeout{0};
    std::shared_ptr<tls::Identity> identity = nullptr;  // with TLS
  };

  static constexpr size_t kMaxPending = 1024;      // calls without an answer
  static constexpr size_t kMaxUnsent = 16u << 20;  // bytes

  // Tries the addresses in turn; while there is no room, at the peer or here, again and again until
  // the timeout has passed. `connected`: kStale when another run than the wanted one answers; kBusy
  // when the peer had no room; kResource when this process had no descriptor; kUnavailable when
  // nobody answers.
  static std::shared_ptr<ControlClient> connect(EventLoop& loop, Registry& registry,
                                                std::vector<SocketAddress> addresses,
                                                const Options& options, Connected connected);

  void call(wire::ControlType type, std::string_view body, int64_t deadline_ns,
            Answered answered) override;
  void close(const Status& why) override;
  bool usable() const override { return phase_ == Phase::kReady; }
  uint64_t peer_instance() const override { return peer_instance_; }
  const SocketAddress& address() const override { return address_; }

  void on_events(uint32_t events) override;

 private:
  enum class Phase { kConnecting, kHello, kReady, kClosed };
  struct Pending {
    uint64_t id;
    int64_t deadline_ns;
    Answered answered;
  };

  ControlClient(EventLoop& loop, Registry& registry, std::vector<SocketAddress> addresses,
                const Options& options, Connected connected);
  void try_next_address();
  // The peer, or this side, refuses the other, or the connection was lost in the handshake.
  void insecure();
  void start_hello();
  void finish_hello();
  // This address does not lead to the engine.
  void address_failed(const Status& why, bool lost_in_hello = false);
  void close_socket(bool reset);
  void flush();
  void receive();
  bool parse();  // false: closed
  // When the oldest call must be answered.
  int64_t answer_due_ns() const;
  void check_time();
  void arm(int64_t at_ns);
  Status lost(std::string_view why) const;
  // That an answer is overdue, with the time it had.
  std::string silence() const;

  EventLoop& loop_;
  Registry& registry_;
  const Options options_;
  const int64_t timeout_ns_;
  std::vector<SocketAddress> addresses_;
  size_t next_address_ = 0;
  ConnectRetry retry_;
  int64_t retry_ms_ = -1;  // when to begin with the first address again; -1: not at all
  SocketAddress address_;
  Connected connected_;
  Phase phase_ = Phase::kConnecting;
  tls::Connection connection_;
  uint64_t peer_instance_ = 0;
  Bytes out_;
  size_t out_sent_ = 0;
  Bytes in_;
  uint64_t next_id_ = 1;
  std::deque<Pending> pending_;
  int64_t phase_since_ns_ = 0;  // while connecting; then since when the oldest call is the oldest
  int64_t armed_at_ns_ = kNever;
};

// Connects and exchanges hellos; the instance that answers. Blocks, on name servers too; any
// thread.
Result<uint64_t> greet(const Locator& locator, uint64_t own_instance,
                       std::chrono::milliseconds timeout,
                       const std::shared_ptr<tls::Identity>& identity);

}  // namespace te
