// The retry queue: slices whose path failed wait here until their segment's engine is found again,
// and are then planned anew, or end.
//
// Threads: add() from any, also a transport's; the work is done on the pool.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "base/options.h"
#include "base/task_pool.h"
#include "core/batch.h"
#include "engine/segments.h"

namespace te {

// What the queue asks of the transfers.
class SliceOwner {
 public:
  virtual ~SliceOwner() = default;
  // Plans the slice anew against the segment's target and posts it; false: nothing was posted, and
  // `*why` says why the slice must end.
  virtual bool repost(Slice* slice, const std::shared_ptr<Segment>& segment, Status* why) = 0;
  // The slice ends without success. `why` is for people.
  virtual void end(Slice* slice, Code code, const Status& why) = 0;
};

class Recovery {
 public:
  Recovery(const Config& config, Segments& segments, TaskPool& pool)
      : config_(config), segments_(segments), pool_(pool) {}
  // Before the first add().
  void set_owner(SliceOwner& owner) { owner_ = &owner; }

  void add(std::shared_ptr<Segment> segment, Slice* slice, Code code);
  // Slices that were cancelled meanwhile come out soon.
  void wake();
  // Every slice ends as kCancelled; add() then ends them at once.
  void stop();

 private:
  struct Job {
    std::shared_ptr<Segment> segment;
    std::vector<Slice*> slices;
    int64_t since_ns = 0;
  };

  void work(Segment* key);
  void pause(int64_t delay_ms);
  // False: the job is over.
  bool round(Segment* key);
  std::vector<Slice*> repost_all(const std::shared_ptr<Segment>& segment,
                                 const std::vector<Slice*>& slices);

  const Config& config_;
  Segments& segments_;
  TaskPool& pool_;
  SliceOwner* owner_ = nullptr;
  Mutex mutex_;
  CondVar changed_;
  std::unordered_map<Segment*, Job> jobs_ TE_GUARDED_BY(mutex_);
  uint64_t wakes_ TE_GUARDED_BY(mutex_) = 0;
  bool stopping_ TE_GUARDED_BY(mutex_) = false;
};

}  // namespace te
