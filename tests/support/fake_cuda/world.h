// What the parts of the driver share: one lock, the GPUs, the memory, and the streams.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "support/fake_cuda/driver.h"

struct te::cuda::CtxSt {
  int gpu = 0;
};

namespace te::test::fake_cuda {

// Outlives the event where streams still have to do with it.
struct EventState {
  uint64_t recorded = 0;
  uint64_t reached = 0;  // of these
};

}  // namespace te::test::fake_cuda

// Recorded at the end of what was in the stream.
struct te::cuda::EventSt {
  te::cuda::Context context = nullptr;
  std::shared_ptr<te::test::fake_cuda::EventState> state =
      std::make_shared<te::test::fake_cuda::EventState>();
};

namespace te::test::fake_cuda {

using cuda::CuResult;

inline constexpr int kMostGpus = 8;
inline constexpr size_t kGranularity = 2 << 20;  // of memory that is mapped in chunks

struct Operation {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  size_t length = 0;
  std::shared_ptr<EventState> event;    // an event to be recorded
  std::shared_ptr<EventState> awaited;  // one that was recorded so often before what comes next
  uint64_t records = 0;
  std::chrono::steady_clock::time_point ends = {};
};

}  // namespace te::test::fake_cuda

struct te::cuda::StreamSt {
  te::cuda::Context context = nullptr;
  std::deque<te::test::fake_cuda::Operation> queue;    // the first is under way
  std::chrono::steady_clock::time_point free_at = {};  // after what is in the queue
  bool has_thread = false;
  bool destroyed = false;
  std::shared_ptr<te::test::fake_cuda::EventState> held;  // by hold()
};

namespace te::test::fake_cuda {

// Bytes of a GPU, which may be mapped several times.
struct Storage {
  explicit Storage(size_t size);  // fd < 0: there is no memory
  Storage(int file, size_t size) : fd(file), length(size) {}
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  int fd = -1;
  size_t length = 0;
  int gpu = 0;
  int handle_types = 0;
  bool imported = false;  // of another process
};

// Addresses for chunks, and others where the processor sees them.
struct Reservation {
  size_t length = 0;
  std::byte* view = nullptr;
};

enum class Origin { kLegacy, kPool, kChunk, kManaged, kOtherProcess };

// A range of device addresses with memory behind it.
struct Mapping {
  size_t length = 0;
  std::byte* view = nullptr;
  std::shared_ptr<Storage> storage;
  Origin origin = Origin::kLegacy;
  uint64_t id = 0;
  unsigned gpus = ~0u;  // that have access, a bit each
  bool sync_memops = false;
  std::string ipc_name;  // of the handle that was opened
  int opened_by = 0;     // the GPU in whose context it was
};

struct Gpu {
  cuda::CtxSt primary;
  int holders = 0;
  int made = 0;
};

struct Failure {
  CuResult result = CuResult::kSuccess;
  uint64_t after = 0;
};

struct Counts {
  uint64_t copies = 0, pageable = 0, bytes = 0, exports = 0;
  int under_way = 0;
  int busy = 0, most = 0;  // streams
  int lost = 0;            // pinned ranges that were unmapped
};

struct World {
  std::mutex mutex;
  std::condition_variable changed;
  bool initialized = false;
  int gpu_count = 2;
  int first_shown = 0;
  bool sees_writes = true;  // of NICs
  Gpu gpus[kMostGpus];
  std::map<uintptr_t, Mapping> mappings;
  std::multimap<size_t, void*> freed;  // addresses to be used again, by length
  std::map<uintptr_t, Reservation> reservations;
  std::map<cuda::AllocationHandle, std::shared_ptr<Storage>> handles;
  std::map<uintptr_t, size_t> pinned;  // host memory
  std::map<std::string, uint64_t> calls;
  std::map<std::string, Failure> failures;
  std::map<std::string, void*> functions;  // by their names without a version
  uint64_t next = 1;
  int streams = 0;
  std::set<cuda::Event> events;  // not destroyed
  // Kept, so that no other event gets the address of one.
  std::vector<std::unique_ptr<cuda::EventSt>> destroyed_events;
  int64_t latency_us = 0;
  uint64_t bytes_per_second = 0;
  Counts counts;
};

World& world();

// Counts a call; what it is to fail with, if at all. With the lock.
CuResult begin_call(const char* function);
// The context that the calling thread has on top; null: none.
cuda::Context current_context();

// Of what contains the address; null: nothing. With the lock.
std::pair<const uintptr_t, Mapping>* mapping_at(uintptr_t address);
const std::pair<const uintptr_t, size_t>* pinned_at(uintptr_t address);
// The memory that a context had is gone, once it has no holder. With the lock.
void free_memory_of(int gpu);

}  // namespace te::test::fake_cuda

// At the beginning of each function: takes the lock, counts the call, and fails where it is asked
// to, and where the driver was not initialized.
#define FAKE_CUDA_CALL_BEFORE_INIT(name)                                          \
  using namespace te::test::fake_cuda; /* NOLINT(google-build-using-namespace) */ \
  std::unique_lock lock(world().mutex);                                           \
  if (const CuResult failure = begin_call(name); failure != CuResult::kSuccess) return failure

#define FAKE_CUDA_CALL(name)        \
  FAKE_CUDA_CALL_BEFORE_INIT(name); \
  if (!world().initialized) return CuResult::kNotInitialized

#define FAKE_CUDA_CALL_IN_CONTEXT(name) \
  FAKE_CUDA_CALL(name);                 \
  if (current_context() == nullptr) return CuResult::kInvalidContext
