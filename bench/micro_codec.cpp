// What the bytes of the wire cost: hellos, the heads of frames, descriptors.
#include <benchmark/benchmark.h>

#include <array>
#include <string>

#include "core/descriptor.h"
#include "core/wire.h"
#include "transport/tcp/frame.h"

namespace te {
namespace {

void hello(benchmark::State& state) {
  for (auto _ : state) {
    const auto bytes = wire::Hello{}.encode();
    const Result<wire::Hello> hello = wire::Hello::decode(as_bytes({bytes.data(), bytes.size()}));
    benchmark::DoNotOptimize(hello.ok());
  }
}
BENCHMARK(hello);

// The head of a full frame, written and read; per request.
void frame_head(benchmark::State& state) {
  std::array<std::byte, tcp::kMaxFrameHead> head;
  const std::array<std::byte, AccessKey::kSize> key{};
  for (auto _ : state) {
    std::byte* at = head.data();
    tcp::RequestHeader{tcp::RequestType::kWrite, tcp::kMaxRequestsPerFrame, 0}.encode(at);
    benchmark::DoNotOptimize(tcp::RequestHeader::decode(at).valid());
    at += tcp::RequestHeader::kSize;
    for (uint16_t i = 0; i < tcp::kMaxRequestsPerFrame; ++i, at += tcp::RequestEntry::kSize) {
      tcp::RequestEntry::encode(at, i, i, key.data());
      benchmark::DoNotOptimize(tcp::RequestEntry::decode(at));
    }
  }
  state.SetItemsProcessed(state.iterations() * tcp::kMaxRequestsPerFrame);
}
BENCHMARK(frame_head);

void answer_head(benchmark::State& state) {
  std::array<std::byte, tcp::AnswerHeader::kSize> bytes;
  for (auto _ : state) {
    tcp::AnswerHeader{tcp::AnswerType::kAck, Code::kOk, 0, 7}.encode(bytes.data());
    benchmark::DoNotOptimize(bytes.data());
    benchmark::ClobberMemory();
    benchmark::DoNotOptimize(tcp::AnswerHeader::decode(bytes.data()));
  }
}
BENCHMARK(answer_head);

Descriptor descriptor_of(uint64_t buffers) {
  Descriptor result;
  result.transports.push_back({"tcp", AccessKey::kSize, {}});
  result.locations.push_back("cpu:0");
  const std::string key(AccessKey::kSize, 'k');
  for (uint64_t i = 0; i < buffers; ++i) {
    result.add({(uint64_t{1} << 40) + i * 4096, i * 4096, 4096, 0, Rights::kBoth}, {key});
  }
  return result;
}

void encode_descriptor(benchmark::State& state) {
  Descriptor descriptor = descriptor_of(static_cast<uint64_t>(state.range(0)));
  if (!descriptor.finish().ok()) return state.SkipWithError("finish");
  for (auto _ : state) benchmark::DoNotOptimize(descriptor.encode());
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(encode_descriptor)->Arg(1)->Arg(100'000)->Unit(benchmark::kMicrosecond);

void decode_descriptor(benchmark::State& state) {
  Descriptor descriptor = descriptor_of(static_cast<uint64_t>(state.range(0)));
  if (!descriptor.finish().ok()) return state.SkipWithError("finish");
  const Bytes bytes = descriptor.encode();
  for (auto _ : state) {
    if (!Descriptor::decode(bytes).ok()) return state.SkipWithError("decode");
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(decode_descriptor)->Arg(1)->Arg(100'000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace te
