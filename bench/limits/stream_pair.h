// Both ends of the limit of TCP throughput: Streams here and in the peer process, from main buffer
// to limit buffer. Threads: the main thread.
#pragma once

#include <memory>

#include "experiment.h"
#include "limits/sockets.h"

namespace te::bench {

class StreamPair {
 public:
  Status open(Bench& bench, size_t connections);
  void close(Bench& bench);

  // Streams towards the peer, or from it, for one window; the bytes that arrived.
  Result<uint64_t> run(Bench& bench, Opcode opcode, uint64_t block_size);
  // What arrived over each connection since open().
  const std::vector<uint64_t>& totals() const { return totals_; }

 private:
  Result<std::vector<uint64_t>> run_peer(Bench& bench, uint64_t block_size);

  std::unique_ptr<Streams> streams_;
  std::vector<uint64_t> totals_;
};

}  // namespace te::bench
