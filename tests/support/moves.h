// Verified transfers: bytes that go to a target and come back are compared, and the target is asked
// what it has.
//
// Threads: starts and joins its own.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "transfer_engine/engine.h"

namespace te::test {

struct MoveOptions {
  uint64_t remote_at = 0;     // where in the segment
  uint64_t remote_size = 0;   // and how much of it is used
  uint64_t volume = 0;        // bytes to move, both ways together; at least one round
  size_t threads = 8;         // each has its own part of that
  size_t batches_beside = 3;  // in flight at once, of each thread
  uint64_t piece_max = 0;     // bytes of the longest request; 0: the part
  // Asked after each round of writes, from any of the threads: has the target the pattern of `seed`
  // from `at` on? Empty when it has; null: do not ask.
  std::function<std::string(uint64_t seed, uint64_t at, uint64_t length)> check_target;
};

struct MoveResult {
  uint64_t bytes = 0;
  std::string error;  // empty: every byte was right
};

// Writes and reads random pieces at odd addresses until `volume` has been moved.
MoveResult move_and_verify(Engine& engine, SegmentId segment, const MoveOptions& options);

}  // namespace te::test
