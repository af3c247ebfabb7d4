// What finding the buffers of a request costs, here and there, and what registering them did.
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "core/descriptor.h"
#include "core/registry.h"
#include "transfer_engine/engine.h"

namespace te {
namespace {

constexpr uint64_t kBase = 1ull << 40;
constexpr uint64_t kStep = 1 << 16;

void find_local_buffer(benchmark::State& state) {
  const auto count = static_cast<uint64_t>(state.range(0));
  Registry registry;
  for (uint64_t i = 0; i < count; ++i) {
    if (!registry.add(kBase + i * kStep, kStep, "cpu:0", te::Rights::kBoth).ok())
      state.SkipWithError("add");
  }
  std::mt19937_64 random(1);
  for (auto _ : state) {
    benchmark::DoNotOptimize(registry.find(kBase + random() % (count * kStep)));
  }
}
BENCHMARK(find_local_buffer)->Arg(1)->Arg(1000)->Arg(100'000);

void resolve_remote_offset(benchmark::State& state) {
  const auto count = static_cast<uint64_t>(state.range(0));
  Descriptor descriptor;
  descriptor.transports.push_back({"tcp", 20, {}});
  descriptor.locations.push_back("cpu:0");
  const std::string key(20, 'k');
  for (uint64_t i = 0; i < count; ++i) {
    descriptor.add({kBase + i * kStep, i * kStep, kStep, 0, te::Rights::kBoth}, {key});
  }
  if (!descriptor.finish().ok()) state.SkipWithError("finish");
  std::mt19937_64 random(1);
  for (auto _ : state) {
    uint64_t address = 0;
    benchmark::DoNotOptimize(descriptor.resolve({random() % (count * kStep), 1}, &address).ok());
  }
}
BENCHMARK(resolve_remote_offset)->Arg(1)->Arg(1000)->Arg(100'000);

// All in one call; taking them back is not counted.
void register_buffers(benchmark::State& state) {
  const auto count = static_cast<size_t>(state.range(0));
  std::vector<std::byte> memory(count * 64);
  std::vector<BufferEntry> buffers;
  std::vector<void*> addresses;
  for (size_t i = 0; i < count; ++i) {
    buffers.push_back({memory.data() + i * 64, 64});
    addresses.push_back(buffers.back().addr);
  }
  const Result<std::unique_ptr<Engine>> engine = Engine::create({});
  if (!engine.ok()) return state.SkipWithError(engine.status().message().c_str());
  for (auto _ : state) {
    const Status registered = (*engine)->register_memory_batch(buffers);
    state.PauseTiming();
    if (!registered.ok() || !(*engine)->unregister_memory_batch(addresses).ok()) {
      return state.SkipWithError("register");
    }
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(register_buffers)->Arg(1)->Arg(100'000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace te
