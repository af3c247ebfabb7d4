// What moves slices to peers: connections, posts, completions, and what goes wrong.
//
// Whoever has the turn works: a thread that posts, one that waits for a batch (a visitor), or the
// transport's poller. Nobody waits for it on the way down: what is handed over while somebody has
// it goes to the mailbox, and who has the turn looks there again before leaving. Only visitors and
// the poller call done(), without the turn. Queue pairs are made and destroyed on a pool of their
// own, since that blocks.
//
// A work request cannot be taken back alone. Where one has to end, its queue pair fails, which
// brings all of them back; if they do not come, the queue pair is destroyed: then nothing touches
// memory for them any more.
//
// Threads: any; what needs the turn says so.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/spin.h"
#include "base/task_pool.h"
#include "base/waker.h"
#include "transport/rails/memory_regions.h"
#include "transport/rdma/peer_group.h"
#include "transport/rdma/sieve.h"
#include "transport/visits.h"

namespace te::rdma {

inline constexpr std::string_view kName = "rdma";  // of the transport

struct MoverOptions {
  int64_t spin_ns = 0;
  int64_t connect_timeout_ms = 0;
  size_t endpoints = 0;  // alive at once, at most
};

class Mover {
 public:
  // `wake`: makes the poller come. `cards` in the order of the offer.
  Mover(TransportHost& host, std::vector<Card*> cards, const rails::MemoryRegions& memories,
        const MoverOptions& options, std::function<void()> wake);
  // Makes the first thread that makes endpoints. kResource.
  Status start() { return making_.start(); }

  // As Transport's.
  void post(PeerGroup& group, SliceList slices);
  bool visit(int64_t until_ns, Waker& waker);
  void connect(PeerGroup& group, size_t link);
  void sweep(PeerGroup& group) { hand_over(group, &PeerGroup::Mail::sweep); }
  void reset(PeerGroup& group) { hand_over(group, &PeerGroup::Mail::reset); }
  // Nothing is posted to the group any more, and nothing is under way.
  void retire(PeerGroup& group) { hand_over(group, &PeerGroup::Mail::retire); }

  // The poller's.
  struct Attention {
    bool news = false;         // something happened: do not sleep
    bool visited = false;      // a visitor sees to the completions
    int64_t next_ns = kNever;  // when to come again
  };
  // Does what there is to do.
  Attention attend();
  // Whether the poller has to come before anything happens on a descriptor.
  bool wanted() const { return wanted_.load(); }
  void card_changed(size_t card, const Card::News& news);
  // Ends everything; what is posted afterwards comes back at once.
  void stop();

  struct Counters {
    uint64_t posted = 0;  // work requests
    uint64_t ended = 0;
    uint64_t connected = 0;
    uint64_t evicted = 0;
    size_t most_alive = 0;  // endpoints
  };
  Counters counters();

 private:
  using EndpointRef = std::shared_ptr<Endpoint>;
  using Finished = std::vector<std::pair<Slice*, Code>>;
  struct News {
    EndpointRef endpoint;
    bool closed = false;     // else made, or not
    bool peer_lost = false;  // its engine does not answer
    Status status = {};
  };

  void hand_over(PeerGroup& group, bool PeerGroup::Mail::*what);
  void put_into_mailbox(PeerGroup& group) TE_REQUIRES(mail_mutex_);
  bool post_at_once(PeerGroup& group, SliceList slices);
  void work_if_free() {
    if (mail_.load()) take_turns();
  }
  void take_turns();
  // Looks at the completions so often, until there are some.
  bool work_as_visitor(int polls);
  bool visit_until(int64_t until_ns);
  void disconnect(const Endpoint& endpoint);
  void give_back(const Finished& finished);
  void call_poller();

  // Whose turn it is: mover_work.cpp.
  void take_mail() TE_REQUIRES(turn_);
  void take_control_mail(int64_t now) TE_REQUIRES(turn_);
  void know(PeerGroup& group) TE_REQUIRES(turn_);
  void activate(PeerGroup& group) TE_REQUIRES(turn_);
  // A card tells of what is under way; of anything else only the poller knows.
  bool needs_poller() const TE_REQUIRES(turn_) { return !finished_.empty() || !active_.empty(); }
  void advance_all(int64_t now) TE_REQUIRES(turn_);
  // Whether something of the group's still waits.
  bool advance(PeerGroup& group, int64_t now) TE_REQUIRES(turn_);
  bool bind_next(PeerGroup& group, int64_t now) TE_REQUIRES(turn_);
  bool find_penalties(const PeerGroup& group, const Slice& slice) TE_REQUIRES(turn_);
  Status cut(const PeerGroup& group, const Slice& slice, const PeerGroup::Link& link)
      TE_REQUIRES(turn_);
  void flush(Endpoint& endpoint, int64_t now) TE_REQUIRES(turn_);
  bool reap() TE_REQUIRES(turn_);
  void completed(const ibv_wc& completion, int64_t now) TE_REQUIRES(turn_);
  void end_work(Endpoint& endpoint, const Endpoint::Work& work, Code code, int64_t now)
      TE_REQUIRES(turn_);
  void end_flight(Endpoint& endpoint, Flight& flight, int64_t now) TE_REQUIRES(turn_);
  void fence(Endpoint& endpoint) TE_REQUIRES(turn_);
  Flight& take_flight(Slice* slice, int64_t now) TE_REQUIRES(turn_);
  void return_slices(SliceList slices, Code code) TE_REQUIRES(turn_);
  void sweep_now(PeerGroup& group, int64_t now) TE_REQUIRES(turn_);
  void reset_now(PeerGroup& group, int64_t now) TE_REQUIRES(turn_);

  // Connections: mover_connect.cpp.
  void take_news(int64_t now) TE_REQUIRES(turn_);
  void want_links(PeerGroup& group, int64_t now) TE_REQUIRES(turn_);
  bool may_try(const PeerGroup& group, size_t link, int64_t now) const TE_REQUIRES(turn_);
  // False: there is no room for another endpoint now.
  bool begin(PeerGroup& group, size_t link, int64_t now) TE_REQUIRES(turn_);
  bool has_slot(PeerGroup& group, bool first, int64_t now) TE_REQUIRES(turn_);
  void grant_slots(int64_t now) TE_REQUIRES(turn_);
  bool make_room(bool for_first, int64_t now) TE_REQUIRES(turn_);
  void make(const EndpointRef& endpoint);
  void finish_making(const EndpointRef& endpoint, Result<Bytes> answer);
  void tell(News news);
  void prove(Endpoint& endpoint, int64_t now) TE_REQUIRES(turn_);
  void proved(Endpoint& endpoint, int64_t now) TE_REQUIRES(turn_);
  // At once, as long as there is time to connect.
  bool try_again(Endpoint& endpoint, int64_t now) TE_REQUIRES(turn_);
  // The path failed and rests, unless it `is_sound`; what is under way comes back.
  void fail(Endpoint& endpoint, const Status& why, bool is_sound, int64_t now) TE_REQUIRES(turn_);
  void path_failed(PeerGroup& group, size_t link, const Status& why, int64_t now)
      TE_REQUIRES(turn_);
  void lost_all(PeerGroup& group, const Status& why) TE_REQUIRES(turn_);
  void group_over(PeerGroup& group, Code code, const Status& why) TE_REQUIRES(turn_);
  bool has_way(const PeerGroup& group, int64_t now) const TE_REQUIRES(turn_);
  void close(Endpoint& endpoint, int64_t now) TE_REQUIRES(turn_);
  void closed(const EndpointRef& endpoint, int64_t now) TE_REQUIRES(turn_);
  void forget(PeerGroup& group) TE_REQUIRES(turn_);
  // Looks after what does not come by itself; when to look again.
  int64_t watch(int64_t now) TE_REQUIRES(turn_);
  void watch_endpoint(Endpoint& endpoint, int64_t now) TE_REQUIRES(turn_);

  TransportHost& host_;
  const std::vector<Card*> cards_;
  const rails::MemoryRegions& memories_;
  const MoverOptions options_;
  const std::function<void()> wake_;

  Mutex mail_mutex_;
  std::vector<std::shared_ptr<PeerGroup>> mailbox_ TE_GUARDED_BY(mail_mutex_);
  std::vector<std::shared_ptr<PeerGroup>> control_mail_ TE_GUARDED_BY(mail_mutex_);
  std::vector<News> news_ TE_GUARDED_BY(mail_mutex_);
  bool ended_ TE_GUARDED_BY(mail_mutex_) = false;
  std::atomic<bool> mail_{false};
  std::atomic<bool> wanted_{false};

  Mutex turn_;
  bool stopped_ TE_GUARDED_BY(turn_) = false;
  std::map<PeerGroup*, std::shared_ptr<PeerGroup>> groups_ TE_GUARDED_BY(turn_);
  std::vector<std::shared_ptr<PeerGroup>> taken_ TE_GUARDED_BY(turn_);  // out of the mailbox
  std::vector<PeerGroup*> active_ TE_GUARDED_BY(turn_);                 // with something that waits
  std::unordered_map<uint32_t, EndpointRef> endpoints_ TE_GUARDED_BY(turn_);
  uint32_t next_endpoint_ TE_GUARDED_BY(turn_) = 1;
  Sieve<Endpoint> sieve_ TE_GUARDED_BY(turn_);        // those that are ready
  std::deque<PeerGroup*> line_ TE_GUARDED_BY(turn_);  // for an endpoint
  size_t leaving_ TE_GUARDED_BY(turn_) = 0;           // endpoints that make room
  size_t reserved_ TE_GUARDED_BY(turn_) = 0;          // granted, not begun
  std::deque<Flight> flights_ TE_GUARDED_BY(turn_);
  std::vector<Flight*> free_flights_ TE_GUARDED_BY(turn_);
  std::vector<double> penalties_ TE_GUARDED_BY(turn_);
  std::vector<rails::MemoryRegions::Found> found_ TE_GUARDED_BY(turn_);  // by card, the last
  std::vector<Endpoint::Operation> operations_ TE_GUARDED_BY(turn_);
  Finished finished_ TE_GUARDED_BY(turn_);
  Counters counters_ TE_GUARDED_BY(turn_);
  int64_t watched_ns_ TE_GUARDED_BY(turn_) = 0;
  int64_t watch_next_ns_ TE_GUARDED_BY(turn_) = 0;
  std::atomic<uint64_t> under_way_{0};  // work requests

  // While a visit lasts, and shortly after, the poller leaves the completions alone.
  Visits visits_;
  SpinPolicy spin_;                      // the visitor's
  Finished returned_;                    // the visitor's, kept for its memory
  int64_t attended_ns_ = INT64_MIN / 2;  // the poller's: when it had the turn last

  TaskPool making_;  // last: its threads use the rest
};

}  // namespace te::rdma
