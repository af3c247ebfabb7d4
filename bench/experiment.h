// What the suite runs: an experiment prepares, then measures in rounds its limit and the real thing
// one after the other, then verifies the bytes. It fills one or more rows of the report.
//
// Threads: the main thread, except where an experiment starts threads of its own.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "buffers.h"
#include "mover.h"
#include "peer.h"
#include "row.h"

namespace te::bench {

struct Settings {
  uint64_t rounds = 5;
  std::chrono::milliseconds window{300};  // of one measurement
  uint64_t memory_bytes = 256 << 20;      // of each buffer; larger than the caches
  bool quick = false;
  std::string python;  // an interpreter that has the package, or empty
};

// What the experiments share: this process's memory and the process opposite.
class Bench {
 public:
  static Result<std::unique_ptr<Bench>> create(const Settings& settings);

  const Settings settings;
  Buffers buffers;
  Peer peer;

  // A seed that no bytes in the buffers come from yet.
  uint64_t next_seed() { return ++seed_; }
  Clock::time_point window_end() const { return Clock::now() + settings.window; }

 private:
  Bench(const Settings& what, Buffers memory, Peer process)
      : settings(what), buffers(std::move(memory)), peer(std::move(process)) {}

  uint64_t seed_ = 0;
};

class Experiment {
 public:
  virtual ~Experiment() = default;

  // Without measurements; the same at each call.
  virtual std::vector<Row> rows() const = 0;
  // kUnsupported: it cannot run here, and is left out with the reason.
  virtual Status prepare(Bench& bench) = 0;
  // One round: the limit, the real thing; adds to the rows, which are in the order of rows().
  virtual Status round(Bench& bench, std::span<Row> rows) = 0;
  // How many bytes are where they must be; an error when one is not.
  virtual Result<uint64_t> verify(Bench& bench) = 0;
  // Undoes prepare(), as far as that came.
  virtual void finish(Bench& bench) { (void)bench; }
};

using Experiments = std::vector<std::unique_ptr<Experiment>>;

void add_tcp_throughput(Experiments& experiments);
void add_tcp_latency(Experiments& experiments);
void add_tls(Experiments& experiments);
void add_same_host(Experiments& experiments);
void add_engine(Experiments& experiments);
void add_many_peers(Experiments& experiments);
void add_spinning(Experiments& experiments);
void add_fabric(Experiments& experiments);
void add_rdma(Experiments& experiments);
void add_python(Experiments& experiments);
void add_other_programs(Experiments& experiments);

}  // namespace te::bench
