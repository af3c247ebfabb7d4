#include "limits/stream_pair.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <numeric>

namespace te::bench {
namespace {

uint64_t sum(const std::vector<uint64_t>& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), uint64_t{0});
}

}  // namespace

Status StreamPair::open(Bench& bench, size_t connections) {
  const Result<uint64_t> port = bench.peer.ask_number(fmt::format("open_streams {}", connections));
  if (!port.ok()) return port.status();
  Result<std::vector<Socket>> sockets =
      connect_to_loopback(static_cast<uint16_t>(*port), connections);
  if (!sockets.ok()) return sockets.status();
  streams_ = std::make_unique<Streams>(sockets.take(), bench.buffers.main_bytes(),
                                       bench.buffers.limit_bytes());
  totals_.assign(connections, 0);
  return {};
}

void StreamPair::close(Bench& bench) {
  streams_.reset();
  (void)bench.peer.ask("close_streams");
}

Result<uint64_t> StreamPair::run(Bench& bench, Opcode opcode, uint64_t block_size) {
  const uint64_t before = sum(totals_);
  Result<std::vector<uint64_t>> totals = opcode == Opcode::kWrite
                                             ? streams_->send(block_size, bench.settings.window)
                                             : run_peer(bench, block_size);
  if (!totals.ok()) return totals.status();
  totals_ = totals.take();
  if (opcode == Opcode::kRead) {
    TE_RETURN_IF_ERROR(streams_->await(totals_));
  } else {
    const Result<Words> arrived =
        bench.peer.ask(fmt::format("await_streams {}", fmt::join(totals_, " ")));
    if (!arrived.ok()) return arrived.status();
  }
  return sum(totals_) - before;
}

Result<std::vector<uint64_t>> StreamPair::run_peer(Bench& bench, uint64_t block_size) {
  const Result<Words> words =
      bench.peer.ask(fmt::format("send_streams {} {}", block_size, bench.settings.window.count()));
  if (!words.ok()) return words.status();
  std::vector<uint64_t> totals;
  for (const std::string& word : *words) totals.push_back(std::stoull(word));
  return totals;
}

}  // namespace te::bench
