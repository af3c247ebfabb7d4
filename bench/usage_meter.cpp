#include "usage_meter.h"

#include "process_usage.h"

namespace te::bench {

Result<double> cpu_of_both(Bench& bench) {
  const Result<uint64_t> peer_us = bench.peer.ask_number("cpu_us");
  if (!peer_us.ok()) return peer_us.status();
  return cpu_seconds() + static_cast<double>(*peer_us) / 1e6;
}

}  // namespace te::bench
