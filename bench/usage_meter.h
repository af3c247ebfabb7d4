// What one measurement took: bytes, time, and the CPU time of this process and the peer's.
// Threads: the main thread.
#pragma once

#include "experiment.h"

namespace te::bench {

struct Usage {
  double bytes = 0;
  double wall_s = 0;
  double cpu_s = 0;

  double gb_per_s() const { return bytes / wall_s / 1e9; }
  double cpu_s_per_gb() const { return cpu_s / (bytes / 1e9); }
};

// Runs `measured`, which returns the bytes that it moved.
template <typename Measured>
Result<Usage> measure(Bench& bench, Measured&& measured);

// The CPU time that both processes used since they began.
Result<double> cpu_of_both(Bench& bench);

template <typename Measured>
Result<Usage> measure(Bench& bench, Measured&& measured) {
  const Result<double> cpu = cpu_of_both(bench);
  if (!cpu.ok()) return cpu.status();
  const Clock::time_point begin = Clock::now();
  const Result<uint64_t> bytes = measured();
  const std::chrono::duration<double> wall = Clock::now() - begin;
  if (!bytes.ok()) return bytes.status();
  const Result<double> cpu_after = cpu_of_both(bench);
  if (!cpu_after.ok()) return cpu_after.status();
  return Usage{static_cast<double>(*bytes), wall.count(), *cpu_after - *cpu};
}

}  // namespace te::bench
