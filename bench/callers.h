// The threads of one program that move bytes to or from one segment, each over its own part of the
// memory.
//
// Threads: the one that calls; those of run().
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mover.h"

namespace te::bench {

class Callers {
 public:
  // An engine on `address` with TCP, `memory` registered with it, and the segment `name` open.
  static Result<std::unique_ptr<Callers>> open(const std::string& address, const std::string& name,
                                               std::span<std::byte> memory);

  struct Moved {
    double gb_per_s = 0;       // all threads together
    uint64_t least_bytes = 0;  // of one thread, from the beginning of its part on
  };
  // `threads` at once until then, one batch after the other.
  Result<Moved> run(const Load& load, size_t threads, Clock::time_point end);

 private:
  Callers(std::unique_ptr<Engine> engine, SegmentId segment, std::span<std::byte> memory)
      : engine_(std::move(engine)), segment_(segment), memory_(memory) {}

  const std::unique_ptr<Engine> engine_;
  const SegmentId segment_;
  const std::span<std::byte> memory_;
};

}  // namespace te::bench
