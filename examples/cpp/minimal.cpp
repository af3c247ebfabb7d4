// Two engines in one process: one writes 4 KiB into the other's memory, and reads them back.
#include <transfer_engine/engine.h>

#include <cstdio>
#include <vector>

// Moves one range and waits until it is in place.
te::Status transfer(te::Engine& engine, const te::TransferRequest& request) {
  const auto batch = engine.allocate_batch(1);
  if (!batch.ok()) return batch.status();
  TE_RETURN_IF_ERROR(engine.submit(*batch, {&request, 1}));
  TE_RETURN_IF_ERROR(engine.wait(*batch));
  const auto error = engine.task_error(*batch, 0);  // why it ended as it did; ok: completed
  TE_RETURN_IF_ERROR(engine.free_batch(*batch));
  return error.ok() ? error->status : error.status();
}

te::Status run() {
  // Declared before the engines, since registered memory must outlive its registration.
  std::vector<char> target_memory(4096), local(4096, 'x'), back(4096);

  te::EngineOptions options;  // no metadata server, and any free port
  options.host = "127.0.0.1";
  auto target = te::Engine::create(options);
  if (!target.ok()) return target.status();
  auto engine = te::Engine::create(options);
  if (!engine.ok()) return engine.status();

  // The target only says what may be touched, and then does nothing.
  TE_RETURN_IF_ERROR((*target)->register_memory(target_memory.data(), target_memory.size()));

  // What the initiator sends from and receives into is registered as well.
  TE_RETURN_IF_ERROR((*engine)->register_memory(local.data(), local.size()));
  TE_RETURN_IF_ERROR((*engine)->register_memory(back.data(), back.size()));
  const auto segment = (*engine)->open_segment((*target)->local_endpoint());
  if (!segment.ok()) return segment.status();

  TE_RETURN_IF_ERROR(
      transfer(**engine, {te::Opcode::kWrite, local.data(), *segment, 0, local.size()}));
  TE_RETURN_IF_ERROR(
      transfer(**engine, {te::Opcode::kRead, back.data(), *segment, 0, back.size()}));
  const bool equal = local == target_memory && local == back;
  std::printf("wrote and read %zu bytes, %s\n", local.size(), equal ? "equal" : "DIFFERENT");
  return equal ? te::Status() : te::Status(te::Code::kInternal, "the bytes differ");
}

int main() {
  const te::Status status = run();
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.to_string().c_str());
  return status.ok() ? 0 : 1;
}
