// What a user of the engine does to move bytes: a batch at a time, allocated, submitted, awaited
// and freed, over blocks of the memory in rotation.
//
// Threads: one at a time per object; objects may share an engine.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "histogram.h"
#include "transfer_engine/engine.h"

namespace te::bench {

using Clock = std::chrono::steady_clock;

enum class Waiting {
  kSleep,  // wait() without end
  kPoll,   // wait(0 ms) again and again
  kSpin,   // status() of one task after the other, each until it is terminal
};

struct Load {
  Opcode opcode = Opcode::kWrite;
  uint64_t block_size = 0;
  uint64_t batch_size = 1;
  Waiting waiting = Waiting::kSleep;

  uint64_t batch_bytes() const { return block_size * batch_size; }
};

// An engine on `address` of this machine, libfabric's too, that has `transport` alone, or tcp with
// TLS where that is Keys::transport(); kUnsupported
// if this build or machine has none.
Result<std::unique_ptr<Engine>> make_engine(const std::string& transport,
                                            const std::string& address = "127.0.0.1");

class Mover {
 public:
  // Moves between local[i] and byte remote_offset + i of the segment.
  Mover(Engine& engine, SegmentId segment, const Load& load, std::span<std::byte> local,
        uint64_t remote_offset);

  // One batch after the other, at least one, until `end` or a stop signal.
  Status run(Clock::time_point end);
  // The same; each batch's time, from allocating to freed, goes to `batch_ns`.
  Status run(Clock::time_point end, tool::Histogram& batch_ns);
  // One batch.
  Status step();

  uint64_t moved_bytes() const { return moved_bytes_; }  // of finished requests

 private:
  void next_blocks();
  Status spin(BatchId batch);
  Status await(BatchId batch);

  Engine& engine_;
  const SegmentId segment_;
  const Load load_;
  const std::span<std::byte> local_;
  const uint64_t remote_offset_;
  const uint64_t blocks_;
  uint64_t next_block_ = 0;
  uint64_t moved_bytes_ = 0;
  std::vector<TransferRequest> requests_;
};

// Why a batch that ended did not complete, or ok. For several tasks the first that failed speaks.
Status batch_end(Engine& engine, BatchId batch, size_t tasks);

}  // namespace te::bench
