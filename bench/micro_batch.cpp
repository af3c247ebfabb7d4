// What a batch costs inside the engine: accepting its requests, and asking how they are.
#include <benchmark/benchmark.h>

#include <vector>

#include "core/batch.h"
#include "transfer_engine/engine.h"

namespace te {
namespace {

constexpr uint64_t kLength = 64;

// An engine that moves within its own memory, and requests for it: from one source, each to a place
// of its own, since they run at the same time.
struct Local {
  explicit Local(size_t count) : memory((1 + count) * kLength) {
    Result<std::unique_ptr<Engine>> made = Engine::create({});
    if (!made.ok()) return;
    engine = made.take();
    if (!engine->register_memory(memory.data(), memory.size()).ok()) engine.reset();
    for (size_t i = 1; i <= count; ++i) {
      requests.push_back({Opcode::kWrite, memory.data(), kLocalSegment, i * kLength, kLength});
    }
  }

  std::vector<std::byte> memory;  // before the engine, which uses it
  std::unique_ptr<Engine> engine;
  std::vector<TransferRequest> requests;
};

// Per request: the time of the call alone, not that of the copies.
void submit(benchmark::State& state) {
  const auto count = static_cast<size_t>(state.range(0));
  const Local local(count);
  if (!local.engine) return state.SkipWithError("no engine");
  for (auto _ : state) {
    state.PauseTiming();
    const Result<BatchId> batch = local.engine->allocate_batch(count);
    if (!batch.ok()) return state.SkipWithError("allocate");
    state.ResumeTiming();
    const Status status = local.engine->submit(*batch, local.requests);
    state.PauseTiming();
    if (!status.ok() || !local.engine->free_batch(*batch).ok())
      return state.SkipWithError("submit");
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(count));
}
BENCHMARK(submit)->Arg(1)->Arg(1000)->Arg(112'000);

void read_status(benchmark::State& state) {
  const Local local(16);
  if (!local.engine) return state.SkipWithError("no engine");
  const Result<BatchId> batch = local.engine->allocate_batch(16);
  if (!batch.ok() || !local.engine->submit(*batch, local.requests).ok()) {
    return state.SkipWithError("submit");
  }
  if (!local.engine->wait(*batch).ok()) return state.SkipWithError("wait");
  for (auto _ : state) benchmark::DoNotOptimize(local.engine->status(*batch, 3));
}
BENCHMARK(read_status);

void allocate_and_release_batch(benchmark::State& state) {
  BatchTable table;
  for (auto _ : state) {
    const Result<BatchId> id = table.allocate(static_cast<uint64_t>(state.range(0)));
    if (!id.ok()) return state.SkipWithError("allocate");
    Batch& batch = *table.find(*id);
    const MutexLock lock(batch.mutex);
    table.release(batch);
  }
}
BENCHMARK(allocate_and_release_batch)->Arg(1)->Arg(1000);

}  // namespace
}  // namespace te
