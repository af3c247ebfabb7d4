#include "callers.h"

#include <algorithm>
#include <thread>

#include "buffers.h"

namespace te::bench {

Result<std::unique_ptr<Callers>> Callers::open(const std::string& address, const std::string& name,
                                               std::span<std::byte> memory) {
  Result<std::unique_ptr<Engine>> engine = make_engine("tcp", address);
  if (!engine.ok()) return engine.status();
  TE_RETURN_IF_ERROR((*engine)->register_memory(memory.data(), memory.size()));
  const Result<SegmentId> segment = (*engine)->open_segment(name);
  if (!segment.ok()) return segment.status();
  TE_RETURN_IF_ERROR((*engine)->warmup_segment(name));
  return std::unique_ptr<Callers>(new Callers(engine.take(), *segment, memory));
}

Result<Callers::Moved> Callers::run(const Load& load, size_t threads, Clock::time_point end) {
  std::vector<std::unique_ptr<Mover>> movers;
  for (size_t i = 0; i < threads; ++i) {
    const std::span<std::byte> part = stripe(memory_, i, threads);
    const auto offset = static_cast<uint64_t>(part.data() - memory_.data());
    movers.push_back(std::make_unique<Mover>(*engine_, segment_, load, part, offset));
  }
  std::vector<Status> statuses(threads);
  const Clock::time_point begin = Clock::now();
  {
    std::vector<std::jthread> running;
    for (size_t i = 0; i < threads; ++i) {
      running.emplace_back([&, i] { statuses[i] = movers[i]->run(end); });
    }
  }
  const double wall_s = std::chrono::duration<double>(Clock::now() - begin).count();
  uint64_t bytes = 0, least = UINT64_MAX;
  for (size_t i = 0; i < threads; ++i) {
    TE_RETURN_IF_ERROR(statuses[i]);
    bytes += movers[i]->moved_bytes();
    least = std::min(least, movers[i]->moved_bytes());
  }
  return Moved{static_cast<double>(bytes) / wall_s / 1e9, least};
}

}  // namespace te::bench
