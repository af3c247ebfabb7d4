// One process plays both sides: it writes 4 KiB into the memory of a second engine, and compares.
#include <transfer_engine/engine.h>

#include <cstdio>
#include <vector>

namespace {

te::Status run() {
  // The target: an engine without a metadata server, on any free port; its name is "host:port".
  te::EngineOptions options;
  options.host = "127.0.0.1";
  auto target = te::Engine::create(options);
  if (!target.ok()) return target.status();
  std::vector<char> target_memory(4096);
  TE_RETURN_IF_ERROR((*target)->register_memory(target_memory.data(), target_memory.size()));

  // The initiator.
  auto engine = te::Engine::create(options);
  if (!engine.ok()) return engine.status();
  std::vector<char> source(4096, 'x');
  TE_RETURN_IF_ERROR((*engine)->register_memory(source.data(), source.size()));
  auto segment = (*engine)->open_segment((*target)->local_endpoint());
  if (!segment.ok()) return segment.status();

  auto batch = (*engine)->allocate_batch(1);
  if (!batch.ok()) return batch.status();
  const te::TransferRequest request{te::Opcode::kWrite, source.data(), *segment, 0, source.size()};
  TE_RETURN_IF_ERROR((*engine)->submit(*batch, {&request, 1}));
  TE_RETURN_IF_ERROR((*engine)->wait(*batch));
  const auto status = (*engine)->status(*batch, 0);
  if (!status.ok()) return status.status();
  std::printf("status %d, %llu bytes, %s\n", static_cast<int>(status->state),
              static_cast<unsigned long long>(status->transferred_bytes),
              source == target_memory ? "equal" : "DIFFERENT");
  return (*engine)->free_batch(*batch);
}

}  // namespace

int main() {
  const te::Status status = run();
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.to_string().c_str());
  return status.ok() ? 0 : 1;
}
