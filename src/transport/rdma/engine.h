// Moves slices through one NIC to peers: connections, posts, completions, and what goes wrong.
//
// Progress says which thread works. Queue pairs are made and destroyed on a pool, since that
// blocks.
//
// A work request cannot be taken back alone. Where one has to end, its queue pair fails, which
// brings all of them back; if they do not come, the queue pair is destroyed: then nothing touches
// memory for them any more.
//
// Threads: any; what needs the progress lock says so.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/task_pool.h"
#include "transport/rails/memory_regions.h"
#include "transport/rails/rail_engine.h"
#include "transport/rdma/rail.h"
#include "transport/rdma/sieve.h"

namespace te::rdma {

inline constexpr std::string_view kName = "rdma";  // of the transport

struct EngineOptions {
  int64_t spin_ns = 0;
  int64_t connect_timeout_ms = 0;
  size_t endpoints = 0;  // alive at once, at most
};

class VerbsEngine final : public rails::RailEngine {
 public:
  // `index`: of the NIC, as `memories` knows it. `making`: makes queue pairs. `wake`: makes the
  // progress thread come.
  VerbsEngine(TransportHost& host, VerbsNic& nic, size_t index,
              const rails::MemoryRegions& memories, const EngineOptions& options, TaskPool& making,
              std::function<void()> wake);

  VerbsNic& nic() { return nic_; }
  rails::NicSpeed speed() override;

  // By the progress thread.
  void nic_changed(const VerbsNic::News& news);

  // What is posted afterwards comes back at once, as what waits does now.
  void begin_stop();
  // Ends everything; the pool has stopped.
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

  static VerbsRail& of(rails::Rail& rail) { return static_cast<VerbsRail&>(rail); }

  // ProgressDriver
  bool poll() override TE_REQUIRES(progress_.lock);
  void advance() override TE_REQUIRES(progress_.lock);
  int64_t watch(int64_t now) override TE_REQUIRES(progress_.lock);
  // The NIC reports what is under way; only the progress thread knows of anything else.
  bool needs_thread() const override TE_REQUIRES(progress_.lock) { return !active_.empty(); }
  Arming arm(bool for_caller) override TE_REQUIRES(progress_.lock);

  // RailEngine
  bool advance_rail(rails::Rail& rail, int64_t now) override TE_REQUIRES(progress_.lock);
  void sweep_under_way(rails::Rail& rail) override TE_REQUIRES(progress_.lock);
  void reset_connection(rails::Rail& rail, const Status& why) override TE_REQUIRES(progress_.lock);
  void retire_now(rails::Rail& rail) override TE_REQUIRES(progress_.lock);

  // Posts and completions: engine_work.cpp.
  bool post_next(VerbsRail& rail, int64_t now) TE_REQUIRES(progress_.lock);
  Status cut(const VerbsRail& rail, const Slice& slice) TE_REQUIRES(progress_.lock);
  void flush(Endpoint& endpoint, int64_t now) TE_REQUIRES(progress_.lock);
  void completed(const ibv_wc& completion, int64_t now) TE_REQUIRES(progress_.lock);
  void end_work(Endpoint& endpoint, const SendQueue::Work& work, Code code, int64_t now)
      TE_REQUIRES(progress_.lock);
  void end_flight(Endpoint& endpoint, Flight& flight) TE_REQUIRES(progress_.lock);
  void fence(Endpoint& endpoint) TE_REQUIRES(progress_.lock);
  Flight& take_flight(Slice* slice, int64_t now) TE_REQUIRES(progress_.lock);
  static Code over(const VerbsRail& rail) TE_NO_THREAD_SAFETY_ANALYSIS {
    return rail.now.over == Code::kOk && rail.rails() ? rail.rails()->ended() : rail.now.over;
  }

  // Connections: engine_connect.cpp.
  void want_endpoint(VerbsRail& rail, int64_t now) TE_REQUIRES(progress_.lock);
  // False: there is no room for another endpoint now.
  bool begin(VerbsRail& rail, int64_t now) TE_REQUIRES(progress_.lock);
  bool has_slot(VerbsRail& rail) TE_REQUIRES(progress_.lock);
  void grant_slots(int64_t now) TE_REQUIRES(progress_.lock);
  bool make_room(int64_t now) TE_REQUIRES(progress_.lock);
  void make(const EndpointRef& endpoint);
  void finish_making(const EndpointRef& endpoint, Result<Bytes> answer);
  // Has the progress thread take note that it was made, or why not.
  void tell_made(const EndpointRef& endpoint, const Status& status);
  void made(Endpoint& endpoint, const Status& status) TE_REQUIRES(progress_.lock);
  void prove(Endpoint& endpoint, int64_t now) TE_REQUIRES(progress_.lock);
  void proved(Endpoint& endpoint, int64_t now) TE_REQUIRES(progress_.lock);
  // At once, as long as there is time to connect.
  bool try_again(Endpoint& endpoint, int64_t now) TE_REQUIRES(progress_.lock);
  // The rail failed and rests, unless it `is_sound`; what is under way comes back.
  void fail(Endpoint& endpoint, const Status& why, bool is_sound, int64_t now)
      TE_REQUIRES(progress_.lock);
  void rest(VerbsRail& rail, const Status& why, int64_t now) TE_REQUIRES(progress_.lock);
  void rail_over(VerbsRail& rail, Code code, const Status& why) TE_REQUIRES(progress_.lock);
  void close(Endpoint& endpoint, int64_t now) TE_REQUIRES(progress_.lock);
  void closed(const EndpointRef& endpoint, int64_t now) TE_REQUIRES(progress_.lock);
  void disconnect(const Endpoint& endpoint);
  int64_t watch_rails(int64_t now) TE_REQUIRES(progress_.lock);
  void watch_endpoint(Endpoint& endpoint, int64_t now) TE_REQUIRES(progress_.lock);

  VerbsNic& nic_;
  const size_t index_;
  const rails::MemoryRegions& memories_;
  const EngineOptions options_;
  TaskPool& making_;

  struct Endpoints {
    std::unordered_map<uint32_t, EndpointRef> all;
    uint32_t next = 1;
    Sieve<Endpoint> sieve;        // those that are ready
    std::deque<VerbsRail*> line;  // for an endpoint
    size_t leaving = 0;           // that make room
    size_t reserved = 0;          // granted, not begun
  } endpoints_ TE_GUARDED_BY(progress_.lock);
  std::deque<Flight> flights_ TE_GUARDED_BY(progress_.lock);
  std::vector<Flight*> free_flights_ TE_GUARDED_BY(progress_.lock);
  rails::MemoryRegions::Found found_ TE_GUARDED_BY(progress_.lock);
  std::vector<SendQueue::Operation> operations_ TE_GUARDED_BY(progress_.lock);
  Counters counters_ TE_GUARDED_BY(progress_.lock);
  int64_t watched_ns_ TE_GUARDED_BY(progress_.lock) = 0;
  int64_t watch_next_ns_ TE_GUARDED_BY(progress_.lock) = 0;
};

}  // namespace te::rdma
