// Brings notifications to peers, in order for each segment, some at once. A peer that is away
// delays no other, and no thread waits for any.
//
// A notification reaches its target at most once. One that is given up never leaves this engine
// afterwards, and the connection on which it may be under way is reset; the target drops what it
// finds on such a connection. So only what the target took before, and could not say any more, is
// there although it is reported otherwise.
//
// Threads: any; the network is the loop's. No callback comes under a lock.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "engine/control_channel.h"
#include "engine/segments.h"

namespace te {

// Too long, or with a NUL inside, which readers in C could not see beyond: kInvalidArgument.
Status check_notification(const Notification& notification);

// What it needs of the engine.
class NotifierHost {
 public:
  using Found = std::function<void(Result<std::shared_ptr<ControlChannel>>)>;

  virtual ~NotifierHost() = default;
  virtual int64_t now_ns() = 0;
  // Runs `task` on the loop, not from inside the call. False: the loop ended, and the task is
  // dropped.
  virtual bool run_after(int64_t delay_ms, std::function<void()> task) = 0;
  // On the loop. The channel is usable, if only when the callback begins, which comes once there,
  // possibly from inside the call.
  virtual void connect(const std::shared_ptr<Segment>& segment, Found found) = 0;
};

class Notifier {
 public:
  using Done = std::function<void(Status)>;

  struct Message {
    std::shared_ptr<Segment> segment;  // not the engine's own
    uint64_t instance = 0;             // the run that it is for; 0: whoever is there
    // Both outlive the callback's beginning. `cancel`: other than kOk, it is wanted back.
    const Notification* notification = nullptr;
    const std::atomic<Code>* cancel = nullptr;
    int64_t retry_until_ns = 0;  // a peer that cannot be reached is tried again until then
    int64_t timeout_ms = -1;     // -1: none
    // Once, on any thread, possibly from inside send(). Ok: the target has it.
    Done done;
  };

  Notifier(uint64_t own_instance, NotifierHost& host) : own_instance_(own_instance), host_(host) {}

  void send(Message message);
  // Those that are cancelled end, as kTimeout or kCancelled.
  void sweep();
  // All end as kCancelled, and so does what comes later.
  void stop();

 private:
  static constexpr size_t kWindow = 32;            // of one segment, without an answer
  static constexpr size_t kWindowBytes = 2 << 20;  // or this much, if it is more than one

  struct Entry {
    uint64_t sequence;
    Message message;
    std::weak_ptr<ControlChannel> sent_on;
    bool sent = false;
    bool tried = false;
  };
  struct Line {
    std::shared_ptr<Segment> segment;
    std::deque<Entry> entries;  // those that were sent come first
    bool busy = false;          // connecting, or pausing
    int64_t delay_ms = 0;
  };
  struct Place {
    Line& line;
    std::deque<Entry>::iterator entry;
  };
  struct Outgoing {
    uint64_t sequence;
    uint64_t instance;
    Bytes body;
  };
  using Ended = std::pair<Done, Status>;

  // On the loop.
  void pump(Segment* key);
  void send_waiting(Segment* key, const std::shared_ptr<ControlChannel>& client);
  void unreachable(Segment* key, const Status& why);
  void answered(Segment* key, uint64_t sequence, const std::shared_ptr<ControlChannel>& client,
                const Status& status);
  void expire(Segment* key, uint64_t sequence);
  std::optional<Place> find_entry(Segment* key, uint64_t sequence) TE_REQUIRES(mutex_);
  Done take_out(const Place& place) TE_REQUIRES(mutex_);
  static bool has_waiting(const Line& line);
  std::vector<Outgoing> take_window(Line& line, const std::shared_ptr<ControlChannel>& client)
      TE_REQUIRES(mutex_);
  void forget_if_empty(Segment* key) TE_REQUIRES(mutex_);
  void give_up(const std::vector<std::shared_ptr<ControlChannel>>& clients);

  const uint64_t own_instance_;
  NotifierHost& host_;
  Mutex mutex_{LockRank::kNotifier};
  std::unordered_map<Segment*, Line> lines_ TE_GUARDED_BY(mutex_);
  uint64_t next_sequence_ TE_GUARDED_BY(mutex_) = 1;
  bool stopping_ TE_GUARDED_BY(mutex_) = false;
};

}  // namespace te
