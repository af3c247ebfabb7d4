// Staging: a stage in the flow of requests whose memory no transport reaches at one end or at both.
// The bytes go through parts of host memory, kParts at each such end. While a part is transferred,
// the one before and the one after are copied.
//
//   local memory -> copy -> local part -> transfer -> remote part -> copy -> remote memory
//
// The transfers in between are submissions like any other, bound to one run of the target. A lease
// of parts at the target is used again by later requests, unless one ended in the middle: what was
// sent may still arrive, so the lease is closed, and WRITEs to the peer wait for that (Fences).
//
// Threads: start() and sweep() from any; at most kWorkers threads of its own work on one request
// each, kPerPeer of them for one run of a peer, so that a silent one leaves the others some.
// Nothing is allocated, and no thread runs, before the first request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "base/options.h"
#include "base/task_pool.h"
#include "core/batch.h"
#include "core/plan.h"
#include "core/stage_message.h"
#include "engine/answer.h"
#include "engine/memory.h"
#include "transport/transport.h"

namespace te {

class Transfers;
using StageAnswer = Answer<Result<Bytes>>;

// A request to be staged.
struct StagedRequest {
  Task* task = nullptr;
  StagedEnds ends;
  uint64_t address = 0;  // at the target
  AccessKey key;         // of the target's buffer, if that end is staged
  uint64_t instance = 0;
  std::shared_ptr<Segment> segment;
};

// Parts that a target leased to this engine.
struct StageLease {
  uint64_t id = 0;
  uint64_t instance = 0;  // of the target
  uint64_t address = 0;
  uint64_t part_bytes = 0;
  uint64_t sequence = 0;  // of the last copy
};

class Staging {
 public:
  // At each end: one is transferred, one is copied, and one is next.
  static constexpr uint32_t kParts = 3;
  static constexpr size_t kWorkers = 16;
  static constexpr size_t kPerPeer = 4;

  Staging(const Config& config, Memory& memory, Transfers& transfers, TransportHost& host)
      : config_(config), memory_(memory), transfers_(transfers), host_(host) {}
  ~Staging() { stop(); }

  void start(StagedRequest request);
  // Ends those that are cancelled and did not begin. The others look by themselves.
  void sweep();
  // Every request ends. Transfers must have cancelled them before.
  void stop();

 private:
  friend class StagedTransfer;
  using Answered = std::shared_ptr<StageAnswer>;

  void work();
  // The first whose peer has a worker left. False: there is none.
  bool take(StagedRequest& request) TE_REQUIRES(mutex_);
  void run(StagedRequest& request);
  Result<std::byte*> take_parts();
  void give_back_parts(std::byte* parts);

  std::optional<StageLease> take_lease(uint64_t instance);
  void give_back_lease(const StageLease& lease);
  // Something of it may still arrive. `writes`: later WRITEs wait until that is ruled out.
  void close_lease(const StageLease& lease, bool writes);
  Answered ask(uint64_t instance, const stage::Hello& hello);

  const Config& config_;
  Memory& memory_;
  Transfers& transfers_;
  TransportHost& host_;
  Mutex mutex_;
  bool stopping_ TE_GUARDED_BY(mutex_) = false;
  std::deque<StagedRequest> waiting_ TE_GUARDED_BY(mutex_);
  std::map<uint64_t, size_t> under_way_ TE_GUARDED_BY(mutex_);        // by instance
  std::vector<std::byte*> parts_ TE_GUARDED_BY(mutex_);               // kParts each, unused
  std::multimap<uint64_t, StageLease> leases_ TE_GUARDED_BY(mutex_);  // by instance, unused
  TaskPool workers_{kWorkers};
};

}  // namespace te
