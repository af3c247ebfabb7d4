// Batches, their tasks and slices, and the table that turns a batch id into one.
//
// Batches, and the blocks of tasks that they use, are never freed while the table lives: a stale
// reader may look at one that serves somebody else by now, sees that the generation differs, and
// reports an error. What a status read touches is atomic.
//
// Threads: any. Fields say who may touch them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mostly_one.h"
#include "base/mutex.h"
#include "base/waker.h"
#include "core/descriptor.h"
#include "core/path.h"
#include "core/registry.h"
#include "transfer_engine/types.h"

namespace te {

struct Batch;
struct Submission;
struct Task;
class Segment;  // the engine's; here only carried along

// The piece of a request that is posted to one path. From submit() to done() it is the transport's.
struct Slice {
  Slice* next = nullptr;  // for lists of whoever holds it
  Task* task = nullptr;
  Path* path = nullptr;
  std::byte* local = nullptr;
  uint64_t remote_address = 0;
  const std::byte* key = nullptr;  // for the path's transport; lives as long as the submission
  uint32_t length = 0;
  Opcode opcode = Opcode::kRead;
  uint8_t attempts = 0;

  inline bool cancelled() const;
};

// A slice of a task that is a list. It has its own range at the target.
struct ListSlice : Slice {
  uint64_t target_offset = 0;
};

// A list of slices, linked by `next`.
struct SliceList {
  Slice* first = nullptr;
  Slice* last = nullptr;

  bool empty() const { return first == nullptr; }
  void push(Slice* slice) {
    slice->next = nullptr;
    (first == nullptr ? first : last->next) = slice;
    last = slice;
  }
  void push_front(Slice* slice) {
    slice->next = first;
    if (first == nullptr) last = slice;
    first = slice;
  }
  Slice* pop() {
    Slice* slice = first;
    first = slice->next;
    if (first == nullptr) last = nullptr;
    return slice;
  }
  void append(SliceList& other) {
    if (other.empty()) return;
    (first == nullptr ? first : last->next) = other.first;
    last = other.last;
    other = {};
  }
};

// Slices of lists, in pieces of memory that the next user has again. Not thread-safe.
class ListSlices {
 public:
  // May throw.
  ListSlice& add() {
    if (used_ == chunks_.size() * kChunk) chunks_.push_back(std::make_unique<ListSlice[]>(kChunk));
    ListSlice& slice = chunks_[used_ / kChunk][used_ % kChunk];
    ++used_;
    return slice;
  }
  size_t size() const { return used_; }
  // From here on nothing refers to them.
  void clear() {
    used_ = 0;
    if (chunks_.size() > kKept) chunks_.resize(kKept);
  }

 private:
  static constexpr size_t kChunk = 1024;
  static constexpr size_t kKept = 64;

  std::vector<std::unique_ptr<ListSlice[]>> chunks_;
  size_t used_ = 0;
};

struct Task {
  std::atomic<TaskState> state{TaskState::kWaiting};
  std::atomic<uint32_t> slices_left{0};
  std::atomic<uint64_t> transferred{0};
  std::atomic<Code> failure{Code::kOk};  // the first
  MemoryKind kind = MemoryKind::kHost;   // of its local memory
  bool is_list = false;                  // its slices are ListSlices, and `first` is none
  bool staged = false;                   // it moves a part of requests that are staged
  Submission* submission = nullptr;
  Segment* segment = nullptr;
  uint64_t instance = 0;  // the run of the target that its slices go to
  std::byte* source = nullptr;
  uint64_t target_offset = 0;
  uint64_t length = 0;
  Slice first;
};

// What is known of a segment's engine at one time: who it is, what it offers, how to get there.
// Read-only; replaced as a whole.
struct Target {
  std::string segment;
  Descriptor descriptor;
  // Keeps the paths' transports, which may have been uninstalled.
  std::vector<std::shared_ptr<Transport>> transports;
  std::vector<std::shared_ptr<Path>> paths;  // best first
  std::vector<int> transport_of_path;        // index of each path's transport in the descriptor
};

// One call of submit(): what its tasks share. What is no atomic is constant while it is under way,
// or needs the batch's mutex.
struct Submission {
  Batch* batch = nullptr;
  std::atomic<uint32_t> tasks_left{0};  // and one until all is posted; 0: over
  std::atomic<uint32_t> data_left{0};  // tasks whose bytes are under way; counted for notifications
  std::atomic<bool> failed{false};
  std::atomic<Code> cancel{Code::kOk};  // kTimeout or kCancelled: its slices are wanted back
  int64_t timeout_ms = 0;
  int64_t deadline_ns = 0;
  uint32_t first_task = 0;
  uint32_t task_count = 0;
  Addressing addressing = Addressing::kAuto;  // never kDefault
  uint64_t only_instance = 0;  // its bytes are for this run of the target alone; 0: for any
  std::optional<Notification> notification;
  // What the tasks' segments, and the slices' paths and keys, live in.
  struct Use {
    std::shared_ptr<Segment> segment;
    std::shared_ptr<const Target> target;
  };
  MostlyOne<Use> uses;        // with the batch's mutex
  std::vector<Buffer*> pins;  // one use of each
  std::vector<std::unique_ptr<Slice[]>> extra_slices;
  ListSlices list_slices;
  std::vector<std::pair<uint32_t, Status>> errors;  // by task, few; with the batch's mutex

  void release_pins() {
    for (Buffer* buffer : pins) buffer->release();
    pins.clear();
  }
  void reset();
};

bool Slice::cancelled() const {
  return task->submission->cancel.load(std::memory_order_acquire) != Code::kOk;
}

// Takes the first ones, as many as are on one path.
inline SliceList take_run(SliceList& slices) {
  SliceList run{slices.first, slices.first};
  while (run.last->next != nullptr && run.last->next->path == run.first->path) {
    run.last = run.last->next;
  }
  slices.first = run.last->next;
  if (slices.first == nullptr) slices.last = nullptr;
  run.last->next = nullptr;
  return run;
}

// Takes those out that are cancelled().
inline SliceList take_cancelled(SliceList& slices) {
  SliceList rest, cancelled;
  while (!slices.empty()) {
    Slice* slice = slices.pop();
    (slice->cancelled() ? cancelled : rest).push(slice);
  }
  slices = rest;
  return cancelled;
}

struct TaskBlock {
  TaskBlock(uint32_t size, std::unique_ptr<Task[]> owned)
      : capacity(size), tasks(std::move(owned)) {}
  const uint32_t capacity;
  const std::unique_ptr<Task[]> tasks;
};

// Where a batch is in the engine's CompletionQueue, which guards it.
struct QueuePlace {
  bool queued = false;
  BatchId id = kInvalidBatch;
  Batch* before = nullptr;
  Batch* behind = nullptr;
};

struct Batch {
  std::atomic<uint64_t> generation{0};  // odd while allocated
  std::atomic<TaskBlock*> block{nullptr};
  std::atomic<uint32_t> size{0};             // what the caller asked for
  std::atomic<uint32_t> submitted{0};        // tasks
  std::atomic<uint32_t> active{0};           // submissions under way; changed under `mutex`
  std::atomic<int64_t> deadline_ns{kNever};  // the earliest of them
  uint32_t slot = 0;
  QueuePlace place;

  Mutex mutex{LockRank::kBatch};
  CondVar idle;                               // active became 0, or closing
  bool closing TE_GUARDED_BY(mutex) = false;  // being freed: no new submission
  bool reports TE_GUARDED_BY(mutex) = false;  // goes into the completion queue when it is idle
  Fd event TE_GUARDED_BY(mutex);
  Waker* helper TE_GUARDED_BY(mutex) = nullptr;  // of a thread that may sleep inside a transport
  // Reused by the next batch in this slot.
  std::vector<std::unique_ptr<Submission>> submissions TE_GUARDED_BY(mutex);
  size_t submissions_used TE_GUARDED_BY(mutex) = 0;
};

class BatchTable {
 public:
  BatchTable();
  BatchTable(const BatchTable&) = delete;
  BatchTable& operator=(const BatchTable&) = delete;

  static constexpr uint64_t kMaxSize = 1u << 22;  // requests in one batch

  // kResource when there is no memory for that many.
  Result<BatchId> allocate(uint64_t size);
  // Null for an id that is not alive.
  inline Batch* find(BatchId id) const;
  // Whether `batch` still is what `id` means; to be asked after reading from it.
  inline bool is(const Batch& batch, BatchId id) const;
  // The batch must be idle; its id is dead from here on.
  void release(Batch& batch) TE_REQUIRES(batch.mutex);

  template <typename Visit>
  void for_each_live(Visit&& visit) const {
    const uint32_t count = slot_count_.load(std::memory_order_acquire);
    for (uint32_t slot = 0; slot < count; ++slot) {
      Batch& batch = *slot_at(slot);
      if ((batch.generation.load(std::memory_order_acquire) & 1) != 0) visit(batch);
    }
  }
  static BatchId id_of(const Batch& batch) {
    return (batch.generation.load(std::memory_order_relaxed) << kSlotBits) | batch.slot;
  }

 private:
  static constexpr uint32_t kSlotBits = 20;
  static constexpr uint32_t kChunkSize = 256;
  static constexpr uint32_t kMaxChunks = (1u << kSlotBits) / kChunkSize;
  using Chunk = std::array<Batch, kChunkSize>;

  Batch* slot_at(uint32_t slot) const {
    return &(*chunks_[slot / kChunkSize].load(std::memory_order_acquire))[slot % kChunkSize];
  }
  // Null: no memory.
  TaskBlock* take_block(uint32_t size) TE_REQUIRES(mutex_);

  Mutex mutex_{LockRank::kBatchTable};
  std::vector<uint32_t> free_slots_ TE_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Chunk>> owned_chunks_ TE_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<TaskBlock>> owned_blocks_ TE_GUARDED_BY(mutex_);
  std::array<std::vector<TaskBlock*>, 32> free_blocks_
      TE_GUARDED_BY(mutex_);  // by log2 of capacity
  std::unique_ptr<std::atomic<Chunk*>[]> chunks_ { new std::atomic<Chunk*>[kMaxChunks] {} };
  std::atomic<uint32_t> slot_count_{0};
  uint64_t first_generation_;
};

bool BatchTable::is(const Batch& batch, BatchId id) const {
  const uint64_t generation = batch.generation.load(std::memory_order_acquire);
  return (generation & 1) != 0 && ((generation << kSlotBits) | batch.slot) == id;
}

Batch* BatchTable::find(BatchId id) const {
  const uint32_t slot = id & ((1u << kSlotBits) - 1);
  if (slot >= slot_count_.load(std::memory_order_acquire)) return nullptr;
  Batch* batch = slot_at(slot);
  return is(*batch, id) ? batch : nullptr;
}

}  // namespace te
