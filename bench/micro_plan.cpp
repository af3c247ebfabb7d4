// What planning a request costs: finding its buffers here and there, reading a status.
#include <benchmark/benchmark.h>

#include <random>

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
    if (!registry.add(kBase + i * kStep, kStep, "cpu:0", true).ok()) state.SkipWithError("add");
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
    descriptor.add({kBase + i * kStep, i * kStep, kStep, 0, true}, {key});
  }
  if (!descriptor.finish().ok()) state.SkipWithError("finish");
  std::mt19937_64 random(1);
  for (auto _ : state) {
    uint64_t address = 0;
    benchmark::DoNotOptimize(descriptor.resolve(random() % (count * kStep), 1, &address).ok());
  }
}
BENCHMARK(resolve_remote_offset)->Arg(1)->Arg(1000)->Arg(100'000);

void read_status(benchmark::State& state) {
  Result<std::unique_ptr<Engine>> engine = Engine::create({});
  if (!engine.ok()) return state.SkipWithError(engine.status().message().c_str());
  const BatchId batch = *(*engine)->allocate_batch(16);
  for (auto _ : state) benchmark::DoNotOptimize((*engine)->status(batch, 3));
}
BENCHMARK(read_status);

}  // namespace
}  // namespace te
