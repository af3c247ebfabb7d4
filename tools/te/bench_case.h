// One case of a benchmark: one operation, one block size, a number of threads for a time. What is
// asked, what came out, and the function between.
//
// Threads: run_case() is called by one thread and starts and joins its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "bench_memory.h"
#include "histogram.h"
#include "transfer_engine/engine.h"

namespace te::tool {

enum class Wait { kPoll, kSleep };

struct CaseSpec {
  Opcode opcode = Opcode::kWrite;
  uint64_t block_size = 0;  // bytes of one request
  uint64_t batch_size = 0;  // requests submitted and waited for together
  uint64_t threads = 1;
  uint64_t duration_ms = 0;
  Wait wait = Wait::kSleep;
  bool verify = false;
  uint64_t seed = 0;  // of the bytes that verify expects; every case needs another one
};

// Local memory and the part of a segment that it is moved to and from; of the same length.
struct Region {
  const BenchMemory* memory = nullptr;
  uint64_t local = 0;  // where the part begins in the memory
  SegmentId segment = kLocalSegment;
  uint64_t remote_offset = 0;
  uint64_t length = 0;  // bytes
};

struct CaseResult {
  CaseSpec spec;
  double seconds = 0;      // from the common start to the end of the last thread's last batch
  double cpu_seconds = 0;  // of this process, user and system, in that time
  uint64_t bytes = 0;
  uint64_t requests = 0;
  uint64_t errors = 0;  // requests that failed, and one for each range that verify found wrong
  uint64_t verified_bytes = 0;  // compared and right
  Histogram latency_ns;         // of a batch, from its submission until it was seen to be done
  std::string first_error;      // empty without errors
  bool interrupted = false;     // a stop signal ended it early
};

// Counted while a case runs, for the progress line.
struct Progress {
  double seconds = 0;
  uint64_t bytes = 0;
};

// The length of each thread's part of a region of `length` bytes.
uint64_t part_bytes(const CaseSpec& spec, uint64_t length);

// Splits `region` into one part per thread, which must hold a batch each: requests of one batch
// never share bytes. `on_progress` is called some times per second in the calling thread. Ends
// early at the first error, and at a stop signal.
CaseResult run_case(Engine& engine, const CaseSpec& spec, const Region& region,
                    const std::function<void(const Progress&)>& on_progress);

}  // namespace te::tool
