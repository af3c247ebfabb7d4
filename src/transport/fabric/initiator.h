// The endpoint through which a card reaches a peer: posts, completions, and what goes wrong. Each
// path has one of its own as long as the descriptors last, so that what goes wrong with one peer
// disturbs no other; beyond that, several paths share one.
//
// Whoever has the turn works: a thread that posts, one that waits for a batch (a visitor), or the
// transport's poller. Nobody waits for it: what is handed over goes to the mailbox, and who has the
// turn looks there again before leaving. Only visitors and the poller call done(), without the
// turn.
//
// A path connects by an exchange: the peer closes the endpoint that it had for the path before, and
// makes another. So nothing of an earlier connection can arrive once there is a later one; for
// WRITEs by another path the engine is asked for a fence.
//
// An operation cannot be taken back alone. Where one has to end, because its slice is wanted back
// or its peer is gone, the endpoint is closed, which ends them all: those of other paths are
// returned as kUnavailable and planned anew. The next connection opens it again.
//
// Threads: any; what needs the turn says so.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/spin.h"
#include "base/waker.h"
#include "transport/fabric/domain.h"
#include "transport/fabric/path.h"
#include "transport/rails/memory_regions.h"
#include "transport/transport.h"
#include "transport/visits.h"

namespace te::fabric {

// A slice under way, in one operation or several; or a probe, without a slice.
struct Job {
  FabricPath* path = nullptr;
  Slice* slice = nullptr;
  uint32_t landing = 0;  // of a probe or a confirmation
  uint32_t posted = 0;   // bytes
  uint32_t outstanding = 0;
  Code code = Code::kOk;  // the first that failed
  int64_t posted_ns = 0;
  // The link's count of READs with its last one. Of a confirmation: with those that it confirms.
  uint64_t reads = 0;
  size_t word = 0;  // of the beacon; 0: a probe
};

struct Operation {
  fi_context2 context{};  // first: what completions point at
  Job* job = nullptr;
  uint32_t length = 0;
};

struct InitiatorOptions {
  int64_t spin_ns = 0;
  int64_t connect_timeout_ms = 0;
  int64_t stall_timeout_ms = 0;
  uint64_t max_operation = 0;  // bytes; 0: what the provider takes
  size_t depth = 1;            // operations that an endpoint takes at once
};

class Initiator {
 public:
  // `wake`: makes the poller come. `memories` knows the local memory as card `card`. `pipe`: what
  // the card moves for all peers.
  Initiator(TransportHost& host, Domain& domain, Pipe& pipe, const rails::MemoryRegions& memories,
            size_t card, const InitiatorOptions& options, std::function<void()> wake);
  ~Initiator();

  Status open();

  size_t card() const { return card_; }
  // Paths that use it.
  std::atomic<size_t> members{0};
  Pipe& pipe() { return pipe_; }
  uint64_t bytes_per_s() const { return bytes_per_s_; }  // as the device says; 0: it does not
  // Under way on one path.
  uint32_t most_slices() const { return most_slices_; }

  // As Transport's.
  void post(FabricPath& path, SliceList slices);
  bool visit(int64_t until_ns, Waker& waker);
  void connect(FabricPath& path) { hand_over(path, &FabricPath::Mail::connect); }
  void sweep(FabricPath& path) { hand_over(path, &FabricPath::Mail::sweep); }
  void reset(FabricPath& path) { hand_over(path, &FabricPath::Mail::reset); }
  // Another path to the peer failed: asks whether the peer is there, if this one seems ready.
  void doubt(FabricPath& path) { hand_over(path, &FabricPath::Mail::doubt); }
  // Nothing is posted on the path any more, and nothing is under way but perhaps a probe.
  void retire(FabricPath& path) { hand_over(path, &FabricPath::Mail::retire); }

  // The poller's.
  struct Attention {
    int descriptor = -1;      // to sleep on; -1: none, see below
    bool news = false;        // something happened, or may have: do not sleep
    bool poll_often = false;  // operations are under way, and no descriptor tells of them
    bool visited = false;     // a visitor sees to the completions
    bool retry = false;       // something waits for room or for a connection
    bool watch = false;       // something is to be looked at within kWatchNs
  };
  // Does what there is to do. `sleeps`: the poller wants to sleep; otherwise no descriptor is told.
  Attention attend(bool sleeps);
  // Whether the poller has to come before anything happens on a descriptor.
  bool wanted() const { return wanted_.load(); }
  // Whether attend() would find something to do, or to look after.
  bool busy() const { return wanted_.load() || watched_.load() || under_way_.load() > 0; }
  // What is posted afterwards comes back at once.
  void begin_stop();
  // Ends everything, after `until_ns` at the latest.
  void stop(int64_t until_ns);

  struct Counters {
    uint64_t posted = 0;
    uint64_t completed = 0;
    uint64_t failed = 0;
    uint64_t ended = 0;  // by closing the endpoint

    void add(const Counters& other) {
      posted += other.posted;
      completed += other.completed;
      failed += other.failed;
      ended += other.ended;
    }
  };
  Counters counters();

  static constexpr int64_t kWatchNs = 5'000'000;

 private:
  struct Peer {
    fi_addr_t address = FI_ADDR_NOTAVAIL;
    uint32_t users = 0;
  };
  // What probes read into.
  static constexpr size_t kLandings = 64;
  static constexpr uint64_t kMostBytes = 64 << 20;  // under way on one path

  // As the provider names it.
  struct Remote {
    uint64_t address = 0;
    uint64_t length = 0;
    uint64_t key = 0;
  };

  static constexpr int64_t kWaited = -1;  // as `posted_ns`: it was not handed over yet

  struct Ended {
    Slice* slice;
    Code code;
    int64_t posted_ns = 0;
  };
  struct Finished {
    std::vector<Ended> slices;
    std::vector<std::shared_ptr<Group>> groups;  // that something became of
    std::vector<std::shared_ptr<FabricPath>> doubtful;

    bool empty() const { return slices.empty() && groups.empty() && doubtful.empty(); }
    void swap(Finished& other) {
      slices.swap(other.slices);
      groups.swap(other.groups);
      doubtful.swap(other.doubtful);
    }
  };

  void hand_over(FabricPath& path, bool FabricPath::Mail::*what);
  void put_into_mailbox(FabricPath& path) TE_REQUIRES(mail_mutex_);
  // Takes the turn if it is free, and does what the mailbox asks for.
  void work_if_free();
  // A visitor's turn. `asleep` (or null) becomes whether the descriptor may be slept on.
  bool work_as_visitor(bool* may_sleep);
  bool visit_until(int64_t until_ns, Waker& waker);
  void give_back(const Finished& finished);
  void call_poller();

  void take_mail() TE_REQUIRES(turn_);
  void take_control_mail() TE_REQUIRES(turn_);
  void activate(FabricPath& path) TE_REQUIRES(turn_);
  void forget(FabricPath& path) TE_REQUIRES(turn_);
  void advance_all() TE_REQUIRES(turn_);
  // Whether something of the path's still waits.
  bool advance(FabricPath& path) TE_REQUIRES(turn_);
  void probe(FabricPath& path) TE_REQUIRES(turn_);
  void open_at_peer(FabricPath& path, int64_t now) TE_REQUIRES(turn_);
  void check_peer(FabricPath& path, int64_t now) TE_REQUIRES(turn_);
  void ask_peer(FabricPath& path, Hello::Type type, int64_t now) TE_REQUIRES(turn_);
  void send_hello(FabricPath& path, const Hello& hello, int64_t now) TE_REQUIRES(turn_);
  void take_answer(FabricPath& path, FabricPath::Mail::Answer answer) TE_REQUIRES(turn_);
  long read_beacon(Job& job, size_t word) TE_REQUIRES(turn_);
  // Before a WRITE of this connection comes back unfinished.
  void fence(FabricPath& path) TE_REQUIRES(turn_);
  // Has the peer close the endpoint of a path that ends. A fence does so too.
  void leave_peer(FabricPath& path) TE_REQUIRES(turn_);
  bool insert_address(FabricPath& path) TE_REQUIRES(turn_);
  void drop_address(FabricPath& path) TE_REQUIRES(turn_);
  // False when there is no room now.
  bool post_rest(Job& job) TE_REQUIRES(turn_);
  Status cut(const Job& job, Remote* remote, void** descriptor) TE_REQUIRES(turn_);
  long post_operation(Job& job, const Remote& remote, void* descriptor, void* local, bool write)
      TE_REQUIRES(turn_);
  Job& take_job(FabricPath& path, Slice* slice) TE_REQUIRES(turn_);

  bool reap() TE_REQUIRES(turn_);
  void completed(Operation& operation, long error, int64_t now) TE_REQUIRES(turn_);
  void finish(Job& job, Code code) TE_REQUIRES(turn_);
  void probe_ended(Job& job, Code code) TE_REQUIRES(turn_);
  void fail(FabricPath& path, Code code, Status why) TE_REQUIRES(turn_);
  void return_slices(SliceList slices, Code code, int64_t posted_ns = 0) TE_REQUIRES(turn_);
  void became_ready(FabricPath& path) TE_REQUIRES(turn_);
  void return_waiting(FabricPath& path, Code code) TE_REQUIRES(turn_);

  // initiator_memory.cpp
  bool copies_in_software() const { return !domain_.local_registration(); }
  void forget_reads(FabricPath& path, Code code = Code::kUnavailable) TE_REQUIRES(turn_);
  // Of a READ that the provider calls completed.
  void hold_or_finish(Job& job) TE_REQUIRES(turn_);
  // False when there is no room now.
  bool confirm_reads(FabricPath& path) TE_REQUIRES(turn_);
  void watch_for_a_while() TE_REQUIRES(turn_);
  void confirmation_ended(Job& job, const Status& why) TE_REQUIRES(turn_);
  bool suspect(const Job& job, Code code) TE_REQUIRES(turn_);
  void ask_about_suspects(FabricPath& path, int64_t now) TE_REQUIRES(turn_);
  void ask_about_reads(FabricPath& path, int64_t now) TE_REQUIRES(turn_);
  bool add_range(const FabricPath& path, const Slice& slice, Hello& hello) const;
  void ask_about(FabricPath& path, Hello hello, int64_t now) TE_REQUIRES(turn_);
  void take_verdict(FabricPath& path, const Result<Bytes>& answer) TE_REQUIRES(turn_);
  // The first `count` of them; of a verdict, those are refused that it calls so.
  void end_suspects(FabricPath& path, size_t count, ByteView verdict,
                    Code code = Code::kUnavailable) TE_REQUIRES(turn_);
  void sweep_suspects(FabricPath& path) TE_REQUIRES(turn_);
  void watch_suspects(FabricPath& path, int64_t now) TE_REQUIRES(turn_);

  void sweep_now(FabricPath& path, int64_t now) TE_REQUIRES(turn_);
  // Looks after what does not come by itself. Whether an operation has to end that does not.
  bool stuck(int64_t now) TE_REQUIRES(turn_);
  bool stuck_on(FabricPath& path, int64_t now) TE_REQUIRES(turn_);
  void end_operations(Code code) TE_REQUIRES(turn_);
  void renew_soon() TE_REQUIRES(turn_);
  void renew_if_due(int64_t now) TE_REQUIRES(turn_);
  void renew(const Status& why) TE_REQUIRES(turn_);
  Status open_endpoint() TE_REQUIRES(turn_);
  // Operations that it leaves unfinished are for end_operations().
  void close_endpoint() TE_REQUIRES(turn_);
  void cut_connections() TE_REQUIRES(turn_);
  bool is_unwanted(const FabricPath& path) const TE_REQUIRES(turn_);

  TransportHost& host_;
  Domain& domain_;
  const rails::MemoryRegions& memories_;
  const size_t card_;
  const InitiatorOptions options_;
  const std::function<void()> wake_;
  const uint64_t bytes_per_s_;
  const uint64_t max_operation_;
  const uint32_t most_slices_;
  Pipe& pipe_;

  Mutex mail_mutex_;
  std::vector<std::shared_ptr<FabricPath>> mailbox_ TE_GUARDED_BY(mail_mutex_);
  std::vector<std::shared_ptr<FabricPath>> control_mail_ TE_GUARDED_BY(mail_mutex_);
  bool ended_ TE_GUARDED_BY(mail_mutex_) = false;
  std::atomic<bool> mail_{false};
  std::atomic<bool> wanted_{false};

  Mutex turn_;
  std::unique_ptr<Endpoint> endpoint_ TE_GUARDED_BY(turn_);
  Status broken_ TE_GUARDED_BY(turn_);  // why there is no endpoint
  std::vector<Operation> operations_ TE_GUARDED_BY(turn_);
  std::vector<Operation*> free_operations_ TE_GUARDED_BY(turn_);
  std::deque<Job> jobs_ TE_GUARDED_BY(turn_);
  std::vector<Job*> free_jobs_ TE_GUARDED_BY(turn_);
  std::map<FabricPath*, std::shared_ptr<FabricPath>> paths_ TE_GUARDED_BY(turn_);
  std::vector<FabricPath*> active_ TE_GUARDED_BY(turn_);    // with something that waits
  rails::MemoryRegions::Found found_ TE_GUARDED_BY(turn_);  // the local memory asked for last
  std::map<Bytes, Peer> peers_ TE_GUARDED_BY(turn_);        // by the name of the endpoint
  // Every endpoint that this one was connected to since it was opened.
  std::map<Bytes, NotedAddress> contacted_ TE_GUARDED_BY(turn_);
  struct alignas(64) Landing {
    uint64_t word;
  };
  std::unique_ptr<std::array<Landing, kLandings>> landings_ TE_GUARDED_BY(turn_);
  Owned<fid_mr> landings_range_ TE_GUARDED_BY(turn_);
  std::vector<uint32_t> free_landings_ TE_GUARDED_BY(turn_);
  Finished finished_ TE_GUARDED_BY(turn_);
  bool queue_failed_ TE_GUARDED_BY(turn_) = false;
  bool renew_wanted_ TE_GUARDED_BY(turn_) = false;  // the endpoint is to be closed
  int64_t reopen_ns_ TE_GUARDED_BY(turn_) = 0;      // when to try again, where it cannot be opened
  bool watching_ TE_GUARDED_BY(turn_) = false;      // something may turn out to be stuck
  int64_t watched_ns_ TE_GUARDED_BY(turn_) = 0;
  int64_t watch_until_ns_ TE_GUARDED_BY(turn_) = 0;  // watching_ does not end before
  Counters counters_ TE_GUARDED_BY(turn_);
  std::atomic<uint64_t> under_way_{0};  // operations
  std::atomic<bool> blocked_{false};    // something waits for room, or for a connection
  std::atomic<bool> watched_{false};    // the poller is to come again soon

  // While a visit lasts, and shortly after, the poller leaves the completions alone.
  Visits visits_;
  int64_t attended_ns_ = INT64_MIN / 2;  // the poller's: when it had the turn last
  SpinPolicy spin_;                      // the visitor's
  std::atomic<int> descriptor_{-1};
  // A visitor may sleep on the descriptor of an endpoint that was closed meanwhile: which one it
  // was, counted by opened_.
  std::atomic<uint64_t> opened_{0};
  std::atomic<uint64_t> visited_endpoint_{0};
};

}  // namespace te::fabric
