// The endpoint through which a NIC reaches a peer: posts, completions, and what goes wrong. Each
// path has one of its own as long as the descriptors last, so that what goes wrong with one peer
// disturbs no other; beyond that, several paths share one.
//
// A path connects by an exchange: the peer closes the endpoint that it had for the path before, and
// makes another. So nothing of an earlier connection can arrive once there is a later one; for
// WRITEs by another path the engine is asked for a fence.
//
// An operation cannot be taken back alone. Where one has to end, because its slice is wanted back
// or its peer is gone, the endpoint is closed, which ends them all: those of other paths are
// returned as kUnavailable and planned anew. The next connection opens it again.
//
// Threads: any; what needs the progress lock says so.
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
#include "transport/fabric/domain.h"
#include "transport/fabric/rail.h"
#include "transport/rails/memory_regions.h"
#include "transport/rails/rail_engine.h"

namespace te::fabric {

// A slice under way, in one operation or several; or a probe, without a slice.
struct Job {
  FabricRail* path = nullptr;
  Slice* slice = nullptr;
  uint32_t probe_buffer = 0;  // of a probe or a confirmation
  uint32_t posted = 0;        // bytes
  uint32_t outstanding = 0;
  Code code = Code::kOk;  // the first that failed
  int64_t posted_ns = 0;
  // The link's count of READs with its last one. Of a confirmation: with those that it confirms.
  uint64_t reads = 0;
  size_t word = 0;  // among the liveness words; 0: a probe
};

struct Operation {
  fi_context2 context{};  // first: what completions point at
  Job* job = nullptr;
  uint32_t length = 0;
};

struct EngineOptions {
  int64_t spin_ns = 0;
  int64_t connect_timeout_ms = 0;
  int64_t stall_timeout_ms = 0;
  uint64_t max_operation = 0;  // bytes; 0: what the provider takes
  size_t depth = 1;            // operations that an endpoint takes at once
};

class FabricEngine final : public rails::RailEngine {
 public:
  // `wake`: makes the progress thread come. `memories` knows the local memory as NIC `index`.
  // `pipe`: what the NIC moves for all peers.
  FabricEngine(TransportHost& host, Domain& domain, RateEstimator& rate,
               const rails::MemoryRegions& memories, size_t index, const EngineOptions& options,
               std::function<void()> wake);
  ~FabricEngine() override;

  Status open();

  // Rails that use it.
  std::atomic<size_t> members{0};
  rails::NicSpeed speed() override { return {rate_, bytes_per_s_, most_slices_}; }

  // Whether the progress thread would find something to do, or to look after.
  bool busy() const {
    return progress_.wanted() || watched_.load() || progress_.outstanding.load() > 0;
  }
  // Ends everything, after `until_ns` at the latest; after progress().close().
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

 private:
  struct Peer {
    fi_addr_t address = FI_ADDR_NOTAVAIL;
    uint32_t users = 0;
  };
  // What probes read into.
  static constexpr size_t kCompletionsAtOnce = 64;
  static constexpr size_t kProbeBuffers = 64;
  static constexpr int64_t kWatchNs = 5'000'000;  // between looks for what may be stuck

  // As the provider names it.
  struct Remote {
    uint64_t address = 0;
    uint64_t length = 0;
    uint64_t key = 0;
  };

  // Of the peer, to a hello.
  struct Answer {
    Hello::Type to = Hello::Type::kOpen;
    uint64_t epoch = 0;
    int64_t took_ns = 0;
    Result<Bytes> answer;
  };

  static FabricRail& of(rails::Rail& rail) { return static_cast<FabricRail&>(rail); }

  // ProgressDriver
  void submitted(SliceList slices) override TE_REQUIRES(progress_.lock);
  bool poll() override TE_REQUIRES(progress_.lock);
  void advance() override TE_REQUIRES(progress_.lock);
  int64_t watch(int64_t now) override TE_REQUIRES(progress_.lock);
  bool needs_thread() const override TE_REQUIRES(progress_.lock);
  Arming arm(bool for_caller) override TE_REQUIRES(progress_.lock);

  // RailEngine
  bool advance_rail(rails::Rail& rail, int64_t now) override TE_REQUIRES(progress_.lock);
  void sweep_under_way(rails::Rail& rail) override TE_REQUIRES(progress_.lock);
  void reset_connection(rails::Rail& rail, const Status& why) override TE_REQUIRES(progress_.lock);
  void doubt_now(rails::Rail& rail) override TE_REQUIRES(progress_.lock);
  void retire_now(rails::Rail& rail) override TE_REQUIRES(progress_.lock);

  // Ends everything, if nothing is under way or the time is over. False: not yet.
  bool stop_now(int64_t until_ns) TE_REQUIRES(progress_.lock);

  void leave(FabricRail& path) TE_REQUIRES(progress_.lock);
  bool post_queue(FabricRail& path) TE_REQUIRES(progress_.lock);
  void probe(FabricRail& path) TE_REQUIRES(progress_.lock);
  void open_at_peer(FabricRail& path, int64_t now) TE_REQUIRES(progress_.lock);
  void check_peer(FabricRail& path, int64_t now) TE_REQUIRES(progress_.lock);
  void ask_peer(FabricRail& path, Hello::Type type, int64_t now) TE_REQUIRES(progress_.lock);
  void send_hello(FabricRail& path, const Hello& hello, int64_t now) TE_REQUIRES(progress_.lock);
  void take_answer(FabricRail& path, const Answer& answer) TE_REQUIRES(progress_.lock);
  long read_liveness_word(Job& job, size_t word) TE_REQUIRES(progress_.lock);
  // Before a WRITE of this connection comes back unfinished.
  void fence(FabricRail& path) TE_REQUIRES(progress_.lock);
  // Has the peer close the endpoint of a path that ends. A fence does so too.
  void leave_peer(FabricRail& path) TE_REQUIRES(progress_.lock);
  bool insert_address(FabricRail& path) TE_REQUIRES(progress_.lock);
  void drop_address(FabricRail& path) TE_REQUIRES(progress_.lock);
  // False when there is no room now.
  bool post_rest(Job& job) TE_REQUIRES(progress_.lock);
  Status cut(const Job& job, Remote* remote, void** descriptor) TE_REQUIRES(progress_.lock);
  long post_operation(Job& job, const Remote& remote, void* descriptor, void* local, bool write)
      TE_REQUIRES(progress_.lock);
  Job& take_job(FabricRail& path, Slice* slice) TE_REQUIRES(progress_.lock);

  void completed(Operation& operation, long error, int64_t now) TE_REQUIRES(progress_.lock);
  void finish(Job& job, Code code) TE_REQUIRES(progress_.lock);
  void probe_ended(Job& job, Code code) TE_REQUIRES(progress_.lock);
  void fail(FabricRail& path, Code code, Status why) TE_REQUIRES(progress_.lock);
  void return_waiting(FabricRail& path, Code code) TE_REQUIRES(progress_.lock);

  // engine_memory.cpp
  bool copies_in_software() const { return domain_.copies_in_software(); }
  void forget_reads(FabricRail& path, Code code = Code::kUnavailable) TE_REQUIRES(progress_.lock);
  // Of a READ that the provider calls completed.
  void hold_or_finish(Job& job) TE_REQUIRES(progress_.lock);
  // False when there is no room now.
  bool confirm_reads(FabricRail& path) TE_REQUIRES(progress_.lock);
  void watch_for_a_while() TE_REQUIRES(progress_.lock);
  void confirmation_ended(Job& job, const Status& why) TE_REQUIRES(progress_.lock);
  bool suspect(const Job& job, Code code) TE_REQUIRES(progress_.lock);
  void ask_about_suspects(FabricRail& path, int64_t now) TE_REQUIRES(progress_.lock);
  void ask_about_reads(FabricRail& path, int64_t now) TE_REQUIRES(progress_.lock);
  bool add_range(const FabricRail& path, const Slice& slice, Hello& hello) const;
  void ask_about(FabricRail& path, Hello hello, int64_t now) TE_REQUIRES(progress_.lock);
  void take_verdict(FabricRail& path, const Result<Bytes>& answer) TE_REQUIRES(progress_.lock);
  // The first `count` of them; of a verdict, those are refused that it calls so.
  void end_suspects(FabricRail& path, size_t count, ByteView verdict,
                    Code code = Code::kUnavailable) TE_REQUIRES(progress_.lock);
  void sweep_suspects(FabricRail& path) TE_REQUIRES(progress_.lock);
  void watch_suspects(FabricRail& path, int64_t now) TE_REQUIRES(progress_.lock);

  // Looks after what does not come by itself. Whether an operation has to end that does not.
  bool stuck(int64_t now) TE_REQUIRES(progress_.lock);
  bool stuck_on(FabricRail& path, int64_t now) TE_REQUIRES(progress_.lock);
  void end_operations(Code code) TE_REQUIRES(progress_.lock);
  void renew_soon() TE_REQUIRES(progress_.lock);
  void renew_if_due(int64_t now) TE_REQUIRES(progress_.lock);
  void renew(const Status& why) TE_REQUIRES(progress_.lock);
  Status open_endpoint() TE_REQUIRES(progress_.lock);
  // Operations that it leaves unfinished are for end_operations().
  void close_endpoint() TE_REQUIRES(progress_.lock);
  void cut_connections() TE_REQUIRES(progress_.lock);
  bool is_unwanted(const FabricRail& path) const TE_REQUIRES(progress_.lock);

  Domain& domain_;
  const rails::MemoryRegions& memories_;
  const size_t index_;
  const EngineOptions options_;
  const uint64_t bytes_per_s_;
  const uint64_t max_operation_;
  const uint32_t most_slices_;
  RateEstimator& rate_;

  std::atomic<bool> watched_{false};  // the progress thread is to come again soon

  // What is posted at the endpoint, and what it was reached by.
  std::unique_ptr<Endpoint> endpoint_ TE_GUARDED_BY(progress_.lock);
  struct Work {
    std::vector<Operation> operations;
    std::vector<Operation*> free_operations;
    std::deque<Job> jobs;
    std::vector<Job*> free_jobs;
  } work_ TE_GUARDED_BY(progress_.lock);
  std::map<Bytes, Peer> peers_ TE_GUARDED_BY(progress_.lock);  // by the name of the endpoint
  // Every endpoint that this one was connected to since it was opened.
  std::map<Bytes, NotedAddress> contacted_ TE_GUARDED_BY(progress_.lock);
  // The local memory asked for last.
  rails::MemoryRegions::Found found_ TE_GUARDED_BY(progress_.lock);
  struct alignas(64) ProbeBuffer {
    uint64_t word;
  };
  struct ProbeBuffers {
    std::unique_ptr<std::array<ProbeBuffer, kProbeBuffers>> all;
    Owned<fid_mr> range;
    std::vector<uint32_t> free;
  } probes_ TE_GUARDED_BY(progress_.lock);
  // Whether the endpoint goes on.
  struct Renewal {
    bool queue_failed = false;
    bool wanted = false;    // the endpoint is to be closed
    Status broken;          // why there is no endpoint
    int64_t reopen_ns = 0;  // when to try again, where it cannot be opened
  } renewal_ TE_GUARDED_BY(progress_.lock);
  // Looks for what may turn out to be stuck.
  struct Watch {
    bool on = false;
    int64_t last_ns = 0;
    int64_t until_ns = 0;  // it stays on
  } watch_ TE_GUARDED_BY(progress_.lock);
  Counters counters_ TE_GUARDED_BY(progress_.lock);
};

}  // namespace te::fabric
