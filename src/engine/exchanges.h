// What transports tell each other over the control channel before they can connect, in both
// directions.
//
// Threads: any. No thread waits for a peer: what transports asked is brought by the control client,
// and their callbacks, which may block, run on a pool of their own. A peer is asked one thing at a
// time, as it answers them one after the other. Accepting has another pool, and never waits behind
// asking, or two engines that ask each other could wait for each other.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string_view>

#include "base/mutex.h"
#include "base/task_pool.h"
#include "engine/segments.h"
#include "transport/transport.h"

namespace te {

class Exchanges {
 public:
  using Answered = TransportHost::Answered;
  // The installed transport of that name, or null.
  using FindTransport = std::function<std::shared_ptr<Transport>(std::string_view)>;

  static constexpr size_t kMaxAccepts = 256;  // of peers, waiting and under way

  Exchanges(uint64_t instance, Segments& segments, FindTransport find_transport)
      : instance_(instance), segments_(segments), find_transport_(std::move(find_transport)) {}
  ~Exchanges() { stop(); }
  // Starts a thread of either pool. kResource.
  Status start() {
    TE_RETURN_IF_ERROR(asking_.start());
    return accepting_.start();
  }

  // TransportHost::exchange().
  void ask(const Peer& peer, std::string_view transport, Bytes hello, Answered answered);
  // A peer asks: ControlService::exchange().
  Status accept(wire::ExchangeBody body, Rights rights, Answered answered);

  // No transport is called for a peer after this, and what was not asked yet is cancelled.
  void begin_stop();
  // Waits until everything that was asked is answered, which the end of the segments speeds up.
  void stop();

 private:
  static constexpr size_t kAskThreads = 16;
  static constexpr size_t kAcceptThreads = 2;

  struct Asked {
    wire::ExchangeBody body;
    Answered answered;
  };

  // The first in line.
  void ask_next(uint64_t instance);
  void bring(uint64_t instance, const wire::ExchangeBody& body, Answered answered);
  void answered(uint64_t instance, Result<Bytes> answer);
  Result<Bytes> give(const wire::ExchangeBody& body, Rights rights) const;

  const uint64_t instance_;
  Segments& segments_;
  const FindTransport find_transport_;
  std::atomic<bool> stopping_{false};
  std::atomic<size_t> accepts_{0};
  Mutex mutex_;
  CondVar none_left_;
  // By the peer's instance; the first of each line is under way.
  std::map<uint64_t, std::deque<Asked>> lines_ TE_GUARDED_BY(mutex_);
  TaskPool asking_{kAskThreads};  // runs the callbacks
  TaskPool accepting_{kAcceptThreads};
};

}  // namespace te
