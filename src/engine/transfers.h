// Batches from submission to the end of every task: checks and plans requests, posts slices, counts
// what comes back, keeps deadlines.
//
// Threads: the public calls from any; done() from transports; one timer thread of its own, asleep
// while nothing is in flight.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "base/options.h"
#include "base/thread.h"
#include "core/batch.h"
#include "core/transfer_list.h"
#include "engine/completion_queue.h"
#include "engine/fences.h"
#include "engine/memory.h"
#include "engine/recovery.h"
#include "engine/segments.h"
#include "engine/staging.h"
#include "platform/memory_driver.h"
#include "transfer_engine/engine.h"
#include "transport/transport.h"

namespace te {

class Transfers final : public SliceOwner {
 public:
  // Brings a notification to the run of a segment's engine; `done` comes once, on any thread,
  // possibly from inside. sweep() ends those whose submission is cancelled.
  struct Notify {
    std::function<void(const Submission& submission, std::shared_ptr<Segment> segment,
                       uint64_t instance, std::function<void(Status)> done)>
        send;
    std::function<void()> sweep;
  };

  Transfers(const Config& config, Memory& memory, Segments& segments, Recovery& recovery,
            Notify notify);
  ~Transfers() override;
  // Starts the timer. kResource.
  Status start();
  // Before the first submit().
  void set_fences(Fences& fences) { fences_ = &fences; }
  void set_staging(Staging& staging) { staging_ = &staging; }

  // Of submissions that do not say.
  void set_addressing(Addressing addressing) {
    addressing_.store(addressing, std::memory_order_relaxed);
  }
  Result<BatchId> allocate(uint64_t size, const BatchOptions& options = {});
  Status submit(BatchId id, std::span<const TransferRequest> requests,
                const SubmitOptions& options);
  // One task with all ranges of the list, which is checked (core/transfer_list.h).
  Status submit_list(BatchId id, AnyList list, const SubmitOptions& options);
  // Whether it could be submitted now.
  Status check(AnyList list);
  // Requests whose targets are addresses, to this run of the segment's engine alone, without a
  // deadline. kStale when another run is there, now or later.
  Status submit_to(BatchId id, std::span<const TransferRequest> requests,
                   const std::shared_ptr<Segment>& segment, uint64_t instance);
  Result<TransferStatus> status(BatchId id, size_t task) const;
  Result<TransferStatus> batch_status(BatchId id) const;
  Result<TaskError> task_error(BatchId id, size_t task) const;
  Status wait(BatchId id, std::optional<std::chrono::milliseconds> timeout);
  Status cancel(BatchId id);
  Result<int> event_fd(BatchId id);
  size_t take_completions(std::span<Completion> completions);
  Result<int> completion_fd() { return completions_.event_fd(); }
  // Reads a byte of the target, and forgets it: what the way there takes is in the caches
  // afterwards. Only for transports that need not know the local memory. False: it did not work.
  bool read_to_warm_up(SegmentId segment, uint64_t address);
  Status free(BatchId id);

  // No submission succeeds after this, and none is under way; then everything in flight is
  // cancelled.
  void begin_stop();
  // Waits until every batch is idle and nobody is inside wait() or free(); ends the timer.
  void finish_stop();

  // Posts what Fences kept.
  static void post_held(SliceList slices);

  // As TransportHost's.
  void done(Slice* slice, Code code);
  Outcome repost(Slice* slice, const std::shared_ptr<Segment>& segment, Status* why) override;
  void end(Slice* slice, Code code, const Status& why) override;

  // What Staging has done: all of the slice, or what is to be planned again.
  void staged(Slice& slice) { slice_ended(&slice, Code::kOk); }
  void stage_again(Slice& slice);

 private:
  struct Posted;
  struct Plan;
  class ListPlanner;
  class Deferred;

  // Down.
  Status accept(BatchId id, std::span<const TransferRequest> requests, const SubmitOptions& options,
                Plan& plan);
  Status plan_all(std::span<const TransferRequest> requests, const SubmitOptions& options,
                  Plan& plan);
  Status plan_one(const TransferRequest& request, Task& task, Plan& plan);
  Status plan_list(const SubmitOptions& options, Plan& plan);
  // Whether the target may offer by now, or soon, what is not known of it here.
  bool may_come(const Status& status, uint64_t offset, uint64_t length, const Plan& plan) const;
  Status find_source(const TransferRequest& request, Plan& plan);
  Status find_segment(SegmentId id, Plan& plan);
  Status cut(Task& task, Opcode opcode, const Target& target, Plan& plan);
  Status device_refusal(const Slice& slice, Code code);
  static bool is_for_device(const Slice& slice);
  Status stage(Task& task, Opcode opcode, const Target& target, size_t buffer, uint64_t address,
               Plan& plan);
  // The same of one slice, of a list, or whose path turned out not to reach its memory;
  // kUnsupported: no path reaches both ends with parts between.
  Status stage(Slice& slice, const Target& target, size_t buffer, uint64_t address,
               StagedRequest* request);
  uint64_t local_buffer_at(const std::byte* address);
  static void wait_for_target(const TransferRequest& request, Task& task, Plan& plan);
  Outcome plan_again(Task& task, const std::shared_ptr<Segment>& segment,
                     const std::shared_ptr<const Target>& target, Status* why);
  Status split_at_border(ListSlice& slice, const Target& target,
                         const std::shared_ptr<Segment>& segment);
  static Posted& posted_for(const Slice* slice, Plan& plan);
  static void append(Slice* slice, Plan& plan);
  void post(Plan& plan);
  // Posts it once the work has ended.
  void post_after(Plan plan, std::unique_ptr<DeviceWork> work);
  // What the options say must end first; none where it has ended.
  Status find_work(const SubmitOptions& options, std::unique_ptr<DeviceWork>* work);
  // Of a plan that is not posted: ends its tasks.
  void drop(Plan& plan, Code code, const Status& why);
  void drop(Task& task, Code code, const Status& why);
  void start(std::vector<StagedRequest> staged);
  // All on one path, with so many bytes.
  void post(SliceList slices, uint64_t bytes);
  static Submission& take_submission(Batch& batch) TE_REQUIRES(batch.mutex);

  // Waiting.
  Status waited_for(BatchId id) const;
  bool help(Batch& batch, int64_t until_ns) TE_REQUIRES(batch.mutex);
  static void await_end(Batch& batch) TE_REQUIRES(batch.mutex);
  // Until the batch is idle, is not `id` any more, or the time has come.
  void wait_idle(Batch& batch, BatchId id, int64_t until_ns) TE_REQUIRES(batch.mutex);

  // Up.
  void slice_ended(Slice* slice, Code code);
  void data_done(Task& task);
  void finish_task(Task& task);
  void one_less(Submission& submission);
  void finish_submission(Submission& submission);
  void deliver(Submission& submission);
  void delivered(Submission& submission, const Status& status);
  static std::shared_ptr<Segment> segment_of(const Task& task);
  static void note_error(Task& task, Status why);
  static void note_cancelled(const Slice& slice, const Status& last);
  static bool long_overdue(const Submission& submission, Code cancel);

  // Deadlines and cancellation.
  static void cancel_submissions(Batch& batch) TE_REQUIRES(batch.mutex);
  // The paths that hold what is wanted back. None: nothing is.
  static void attend(Batch& batch, std::vector<std::shared_ptr<const Target>>& targets)
      TE_REQUIRES(batch.mutex);
  void sweep(const std::vector<std::shared_ptr<const Target>>& targets);
  void run_timer();
  void wake_timer();
  bool anything_under_way() const;
  // The deadlines that have come; when the next one comes, of those known.
  int64_t look_at_deadlines();

  const Config& config_;
  Memory& memory_;
  Segments& segments_;
  Recovery& recovery_;
  Fences* fences_ = nullptr;
  Staging* staging_ = nullptr;
  const Notify notify_;
  BatchTable table_;
  const std::unique_ptr<Deferred> deferred_;
  CompletionQueue completions_;

  std::atomic<Addressing> addressing_{Addressing::kOffset};
  std::atomic<bool> stopping_{false};
  std::atomic<uint32_t> submitting_{0};  // calls under way
  std::atomic<uint32_t> waiting_{0};     // calls inside wait() or free()

  Mutex timer_mutex_;
  CondVar timer_changed_;
  std::atomic<bool> timer_asleep_{false};
  bool timer_stop_ TE_GUARDED_BY(timer_mutex_) = false;
  Thread timer_;
};

}  // namespace te
