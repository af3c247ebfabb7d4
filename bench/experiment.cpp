#include "experiment.h"

namespace te::bench {

Result<std::unique_ptr<Bench>> Bench::create(const Settings& settings) {
  // Before this process has threads.
  Result<Peer> peer = Peer::start(settings.memory_bytes);
  if (!peer.ok()) return peer.status();
  Result<Buffers> buffers = Buffers::allocate(settings.memory_bytes);
  if (!buffers.ok()) return buffers.status();
  return std::unique_ptr<Bench>(new Bench(settings, buffers.take(), peer.take()));
}

}  // namespace te::bench
