// The retry queue: slices whose path failed, and requests that the segment does not offer as far as
// is known here, wait until the segment's engine was asked again, and are then planned anew, or
// end.
//
// A state machine for each segment: it asks, or pauses until it asks again. Nothing blocks, and a
// slice that is cancelled or overdue leaves at once, whatever is under way.
//
// Threads: any. No callback of the owner or of the host comes under a lock. add() calls neither the
// owner nor refresh(), unless it comes after stop().
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/options.h"
#include "core/batch.h"
#include "engine/segments.h"

namespace te {

// What the queue asks of the transfers.
class SliceOwner {
 public:
  // kNotOffered: the segment has no such range, or no way to it; it may come.
  enum class Outcome { kPosted, kNotOffered, kFailed };

  virtual ~SliceOwner() = default;
  // Plans the slice anew against the segment's target and posts it. Else nothing was posted, and
  // `*why` says why the slice must end.
  virtual Outcome repost(Slice* slice, const std::shared_ptr<Segment>& segment, Status* why) = 0;
  // The slice ends without success. `why` is for people.
  virtual void end(Slice* slice, Code code, const Status& why) = 0;
};

// What the queue works with: the clock and the peers.
class RecoveryHost {
 public:
  virtual ~RecoveryHost() = default;
  virtual int64_t now_ns() = 0;
  // Never from inside the call. False: the engine ends, and nothing will be run.
  virtual bool run_after(int64_t delay_ms, std::function<void()> task) = 0;
  // As Segments::refresh().
  virtual void refresh(const std::shared_ptr<Segment>& segment,
                       std::function<void(Status)> refreshed) = 0;
  // As Segment's.
  virtual int64_t restarted_ns(const Segment& segment) = 0;
};

class Recovery {
 public:
  Recovery(const Config& config, RecoveryHost& host) : config_(config), host_(host) {}
  // Before the first add().
  void set_owner(SliceOwner& owner) { owner_ = &owner; }

  void add(std::shared_ptr<Segment> segment, Slice* slice, Code code);
  // Ends the slices that are cancelled.
  void sweep();
  // Every slice ends as kCancelled; add() then ends them at once.
  void stop();

 private:
  struct Job {
    std::vector<Slice*> take_all() {
      std::vector<Slice*> all = std::exchange(slices, {});
      all.insert(all.end(), asking.begin(), asking.end());
      asking.clear();
      return all;
    }

    std::shared_ptr<Segment> segment;
    std::vector<Slice*> slices;  // for the next question
    // For the one under way. Its answer says nothing of what came later: the peer may have sent it
    // before it offered what these want.
    std::vector<Slice*> asking;
    uint64_t number = 0;   // tells it from a later one of the segment
    int64_t since_ns = 0;  // since when the peer is away
    int64_t delay_ms = 0;
    bool asked = false;  // an answer came, good or bad
    Status last;         // it
  };

  // With the lock: null when that job is over.
  Job* find(Segment* key, uint64_t number) TE_REQUIRES(mutex_);
  void ask_after(int64_t delay_ms, Segment* key, uint64_t number);
  void ask(Segment* key, uint64_t number);
  void refreshed(Segment* key, uint64_t number, const Status& status);
  // Returns those that have to wait.
  std::vector<Slice*> sort_out(const std::shared_ptr<Segment>& segment, const Status& status,
                               bool too_late, const std::vector<Slice*>& slices);
  std::vector<Slice*> repost_all(const std::shared_ptr<Segment>& segment,
                                 const std::vector<Slice*>& slices);
  void window_over(Segment* key, uint64_t number);
  void end_all(const std::vector<Slice*>& slices, Code code, const Status& why);
  // The task's slices go to the peer again.
  void note_repost(const Slice& slice) TE_EXCLUDES(mutex_);
  // They did so for a whole window in which the peer answered, as it does now or not, and nothing
  // of the task got through.
  bool reposted_in_vain(const Slice& slice, bool answers) TE_EXCLUDES(mutex_);
  void end(Slice* slice, Code code, const Status& why) TE_EXCLUDES(mutex_);
  int64_t window_ns() const { return static_cast<int64_t>(config_.retry_window_ms) * kNsPerMs; }

  const Config& config_;
  RecoveryHost& host_;
  SliceOwner* owner_ = nullptr;
  Mutex mutex_{LockRank::kRecovery};
  std::unordered_map<Segment*, Job> jobs_ TE_GUARDED_BY(mutex_);
  uint64_t jobs_made_ TE_GUARDED_BY(mutex_) = 0;
  // Tasks that the peer, which answers, got again: since when, and what had got through by then.
  // Those that completed since stay until there are too many.
  struct Reposted {
    int64_t since_ns = 0;
    uint64_t transferred = 0;
  };
  std::unordered_map<const Task*, Reposted> reposted_ TE_GUARDED_BY(mutex_);
  bool stopping_ TE_GUARDED_BY(mutex_) = false;
};

}  // namespace te
