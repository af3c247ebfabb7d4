// Staging: a stage in the flow of requests whose memory no transport reaches at one end or at both.
// The bytes go through parts of host memory, kParts at each such end. While a part is transferred,
// the one before and the one after are copied.
//
//   local memory -> copy -> local part -> transfer -> remote part -> copy -> remote memory
//
// Requests of one submission that are small, and ranges of lists, share parts: so many of them cost
// as few transfers and copies as their bytes take.
//
// The transfers in between are submissions like any other, bound to one run of the target. A lease
// of parts at the target is used again by later requests, unless one ended in the middle: what was
// sent may still arrive, so the lease is closed, and WRITEs to the peer wait for that (Fences).
//
// Threads: start() and sweep() from any; at most kWorkers threads of its own work on one group of
// requests each, kPerPeer of them for one run of a peer, so that a silent one leaves the others
// some. Nothing is allocated, and no thread runs, before the first request.
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

// What is to be staged: a request as a whole, or a slice of a list or of a request.
struct StagedRange {
  Slice* slice = nullptr;  // ended by Staging
  std::byte* local = nullptr;
  uint64_t local_buffer = 0;  // where that begins; 0: not known
  uint64_t address = 0;       // at the target
  uint64_t remote_buffer = 0;
  uint64_t length = 0;
  AccessKey key;  // of the target's buffer, if that end is staged
};
struct StagedRequest {
  StagedRange range;
  StagedEnds ends;
  uint64_t instance = 0;
  std::shared_ptr<Segment> segment;
};

// Ranges of one submission, to one run of a target, that share parts.
struct StagedGroup {
  StagedEnds ends;
  uint64_t instance = 0;
  std::shared_ptr<Segment> segment;
  std::vector<StagedRange> ranges;
  uint64_t bytes = 0;

  Opcode opcode() const { return ranges.front().slice->opcode; }
  const Submission* submission() const { return ranges.front().slice->task->submission; }
  bool cancelled() const { return ranges.front().slice->cancelled(); }
  void add(const StagedRange& range) {
    ranges.push_back(range);
    bytes += range.length;
  }
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
  static constexpr uint64_t kGroupParts = 8;      // of the requests that share parts, at most
  static constexpr size_t kGroupRanges = 65'536;  // likewise

  Staging(const Config& config, Memory& memory, Transfers& transfers, TransportHost& host)
      : config_(config), memory_(memory), transfers_(transfers), host_(host) {}
  ~Staging() { stop(); }

  // All of one submission.
  void start(std::vector<StagedRequest> requests);
  // Ends those that are cancelled and did not begin. The others look by themselves.
  void sweep();
  // Every request ends. Transfers must have cancelled them before.
  void stop();

 private:
  friend class StagedTransfer;
  using Answered = std::shared_ptr<StageAnswer>;

  // What waits for one run of a peer.
  struct Waiting {
    std::deque<StagedGroup> groups;
    size_t under_way = 0;
  };

  // Whether it made another group.
  bool add(StagedRequest& request) TE_REQUIRES(mutex_);
  bool fits(const StagedGroup& group, const StagedRequest& request) const;
  void work();
  // The first of a peer that has a worker left; peers take turns. False: there is none.
  bool take(StagedGroup& group) TE_REQUIRES(mutex_);
  void give_back_worker(uint64_t instance) TE_REQUIRES(mutex_);
  void run(StagedGroup& group);
  // Each half by itself, to find out which ranges fail.
  void run_halves(StagedGroup group);
  void end(const StagedGroup& group, Code code, const Status& why);
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
  std::map<uint64_t, Waiting> waiting_ TE_GUARDED_BY(mutex_);         // by instance
  uint64_t last_taken_ TE_GUARDED_BY(mutex_) = 0;                     // the instance
  std::vector<std::byte*> parts_ TE_GUARDED_BY(mutex_);               // kParts each, unused
  std::multimap<uint64_t, StageLease> leases_ TE_GUARDED_BY(mutex_);  // by instance, unused
  TaskPool workers_{kWorkers};
};

}  // namespace te
