#include "core/batch.h"

#include <algorithm>
#include <bit>
#include <new>

#include "base/counts.h"
#include "base/log.h"
#include "base/random.h"

namespace te {

void Submission::reset() {
  cancel.store(Code::kOk, std::memory_order_relaxed);
  failed.store(false, std::memory_order_relaxed);
  deadline_ns = 0;
  only_instance = 0;
  notification.reset();
  uses.clear();
  pins.clear();
  extra_slices.clear();
  list_slices.clear();
  errors.clear();
}

// A random start makes ids of other engines, and made-up ones, unlikely to be alive here.
BatchTable::BatchTable() : first_generation_((random_u64() >> 24) & ~uint64_t{1}) {}

TaskBlock* BatchTable::take_block(uint32_t size) {
  const auto order = static_cast<uint32_t>(std::bit_width(std::max(size, 1u) - 1));
  std::vector<TaskBlock*>& free = free_blocks_[order];
  if (!free.empty()) {
    TaskBlock* block = free.back();
    free.pop_back();
    return block;
  }
  std::unique_ptr<Task[]> tasks(new (std::nothrow) Task[size_t{1} << order]);
  if (!tasks) return nullptr;
  owned_blocks_.push_back(std::make_unique<TaskBlock>(1u << order, std::move(tasks)));
  return owned_blocks_.back().get();
}

Result<BatchId> BatchTable::allocate(uint64_t size) {
  if (size == 0) return Status(Code::kInvalidArgument, "a batch holds at least one request");
  if (size > kMaxSize) {
    return error(Code::kInvalidArgument, "a batch of {} requests is too large: the most is {}",
                 size, kMaxSize);
  }
  MutexLock lock(mutex_);
  if (free_slots_.empty()) {
    const uint32_t count = slot_count_.load(std::memory_order_relaxed);
    if (count / kChunkSize == kMaxChunks) {
      return error(Code::kBusy, "{} batches are allocated, the most there can be: free some",
                   count);
    }
    owned_chunks_.push_back(std::make_unique<Chunk>());
    Chunk& chunk = *owned_chunks_.back();
    for (uint32_t i = 0; i < kChunkSize; ++i) {
      chunk[i].slot = count + i;
      chunk[i].generation.store(first_generation_, std::memory_order_relaxed);
      free_slots_.push_back(count + kChunkSize - 1 - i);
    }
    chunks_[count / kChunkSize].store(&chunk, std::memory_order_release);
    slot_count_.store(count + kChunkSize, std::memory_order_release);
  }
  Batch& batch = *slot_at(free_slots_.back());
  TaskBlock* block = take_block(static_cast<uint32_t>(size));
  if (block == nullptr) {
    return error(Code::kResource,
                 "there is no memory for a batch of {} requests ({} MiB): allocate smaller ones",
                 size, (std::bit_ceil(size) * sizeof(Task)) >> 20);
  }
  free_slots_.pop_back();
  batch.block.store(block, std::memory_order_relaxed);
  batch.size.store(static_cast<uint32_t>(size), std::memory_order_relaxed);
  grow(batch.generation, 1, std::memory_order_release);
  return id_of(batch);
}

void BatchTable::release(Batch& batch) {
  TaskBlock* block = batch.block.load(std::memory_order_relaxed);
  const uint32_t submitted = batch.submitted.load(std::memory_order_relaxed);
  grow(batch.generation, 1, std::memory_order_release);
  for (uint32_t i = 0; i < submitted; ++i) {
    block->tasks[i].state.store(TaskState::kWaiting, std::memory_order_relaxed);
    block->tasks[i].transferred.store(0, std::memory_order_relaxed);
  }
  batch.submitted.store(0, std::memory_order_relaxed);
  batch.deadline_ns.store(kNever, std::memory_order_relaxed);
  batch.closing = false;
  batch.reports = false;
  batch.event.reset();
  for (size_t i = 0; i < batch.submissions_used; ++i) batch.submissions[i]->reset();
  batch.submissions_used = 0;
  // One is kept for the next batch; many would hold their memory for nothing.
  if (batch.submissions.size() > 4) batch.submissions.resize(4);
  MutexLock lock(mutex_);
  free_blocks_[static_cast<size_t>(std::bit_width(block->capacity) - 1)].push_back(block);
  free_slots_.push_back(batch.slot);
}

}  // namespace te
