// One thread's share of a case: its own part of the local memory and of the segment, its own
// counters.
//
// Threads: every method is called by the worker's own thread, except bytes(), which any may call;
// the results are read after that thread ended.
#pragma once

#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "bench_case.h"

namespace te::tool {

class Worker {
 public:
  using Clock = std::chrono::steady_clock;

  // `failed` is set by the first worker that fails and ends all of them.
  Worker(Engine& engine, const CaseSpec& spec, const Region& region, std::atomic<bool>& failed);

  // Fills the memory, and for reads the segment, and moves one batch that is not counted.
  void prepare();
  // Moves batches until `deadline`.
  void measure(Clock::time_point deadline);
  // With verify: compares everything that the measured batches moved, then some odd ranges.
  void verify();

  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }
  uint64_t requests() const { return requests_; }
  uint64_t errors() const { return errors_; }
  uint64_t verified_bytes() const { return verified_bytes_; }
  const std::string& first_error() const { return first_error_; }
  const Histogram& latency_ns() const { return latency_ns_; }
  // When the last measured batch was done.
  Clock::time_point end() const { return end_; }

 private:
  struct OddRange {
    uint64_t local;   // offset in the local part
    uint64_t remote;  // offset in the remote part
    uint64_t length;
  };

  // True once this worker shall do no more: a stop signal, or an error anywhere.
  bool stopping() const;
  // Submits `requests_buffer_`, waits for it; false when it did not complete, which is counted
  // unless it was cancelled because of stopping().
  bool transfer();
  Status await(BatchId batch, bool& cancelled);
  void count_failures(BatchId batch);
  void add_error(uint64_t count, const std::string& text);
  void note(const Status& status);
  // Of the part: as engines know it, and as the processor sees it.
  std::byte* data() const { return region_.memory->data() + region_.local; }
  std::byte* view() const { return region_.memory->view() + region_.local; }
  // The pattern of that place of the segment, and zeros from the beginning on.
  void fill(uint64_t seed, uint64_t remote, uint64_t local, uint64_t length);
  void clear(uint64_t length);
  // Puts the next `batch_size` blocks of the part, in rotation, into `requests_buffer_`.
  void next_blocks();
  // Moves the first `length` bytes of the part, in large requests.
  bool move_all(Opcode opcode, uint64_t length);
  bool move(Opcode opcode, uint64_t local, uint64_t remote, uint64_t length);
  void verify_moved();
  void verify_odd_range(const OddRange& range);
  bool expect(uint64_t seed, uint64_t remote, uint64_t local, uint64_t length);

  Engine& engine_;
  const CaseSpec spec_;
  const Region region_;
  std::atomic<bool>& failed_;
  const uint64_t blocks_;  // in this part
  uint64_t next_block_ = 0;
  uint64_t blocks_moved_ = 0;  // distinct ones, while measuring
  std::vector<TransferRequest> requests_buffer_;
  std::atomic<uint64_t> bytes_{0};
  uint64_t requests_ = 0;
  uint64_t errors_ = 0;
  uint64_t verified_bytes_ = 0;
  std::string first_error_;
  Histogram latency_ns_;
  Clock::time_point end_{};
  uint64_t last_latency_ns_ = 0;
};

}  // namespace te::tool
