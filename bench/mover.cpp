#include "mover.h"

#include <cstring>

#include "keys.h"
#include "stop_signals.h"

namespace te::bench {

Result<std::unique_ptr<Engine>> make_engine(const std::string& transport,
                                            const std::string& address) {
  EngineOptions options;
  options.host = address;
  options.config["fabric_addresses"] = options.host;
  std::string name = transport;
  if (transport.starts_with(Keys::kPrefix)) {
    options.config.merge(Keys::settings(transport.substr(std::strlen(Keys::kPrefix))));
    name = "tcp";
  }
  Result<std::unique_ptr<Engine>> engine = Engine::create(options);
  if (!engine.ok()) return engine;
  const Status installed = (*engine)->install_transport(name);
  if (installed.code() == Code::kNotFound) {
    return Status(Code::kUnsupported, "not installed: " + installed.message());
  }
  if (!installed.ok()) return installed;
  return engine;
}

Status batch_end(Engine& engine, BatchId batch, size_t tasks) {
  const Result<TransferStatus> end = engine.batch_status(batch);
  if (!end.ok()) return end.status();
  if (end->state == TaskState::kCompleted) return {};
  for (size_t task = 0; task < tasks; ++task) {
    const Result<TaskError> error = engine.task_error(batch, task);
    if (!error.ok()) return error.status();
    if (!error->status.ok()) return error->status;
  }
  return Status(Code::kInternal, "a batch did not complete, and no task of it says why");
}

Mover::Mover(Engine& engine, SegmentId segment, const Load& load, std::span<std::byte> local,
             uint64_t remote_offset)
    : engine_(engine),
      segment_(segment),
      load_(load),
      local_(local),
      remote_offset_(remote_offset),
      blocks_(local.size() / load.block_size) {
  requests_.reserve(load.batch_size);
}

Status Mover::run(Clock::time_point end) {
  do {
    TE_RETURN_IF_ERROR(step());
  } while (Clock::now() < end && tool::stop_signal() == 0);
  return {};
}

Status Mover::run(Clock::time_point end, tool::Histogram& batch_ns) {
  Clock::time_point before = Clock::now();
  do {
    TE_RETURN_IF_ERROR(step());
    const Clock::time_point after = Clock::now();
    batch_ns.record(static_cast<uint64_t>((after - before).count()));
    before = after;
  } while (before < end && tool::stop_signal() == 0);
  return {};
}

Status Mover::step() {
  next_blocks();
  const Result<BatchId> batch = engine_.allocate_batch(requests_.size());
  if (!batch.ok()) return batch.status();
  TE_RETURN_IF_ERROR(engine_.submit(*batch, requests_));
  TE_RETURN_IF_ERROR(await(*batch));
  TE_RETURN_IF_ERROR(batch_end(engine_, *batch, requests_.size()));
  TE_RETURN_IF_ERROR(engine_.free_batch(*batch));
  moved_bytes_ += load_.batch_bytes();
  return {};
}

void Mover::next_blocks() {
  requests_.clear();
  for (uint64_t i = 0; i < load_.batch_size; ++i) {
    const uint64_t offset = next_block_ * load_.block_size;
    requests_.push_back({load_.opcode, local_.data() + offset, segment_, remote_offset_ + offset,
                         load_.block_size});
    next_block_ = next_block_ + 1 == blocks_ ? 0 : next_block_ + 1;
  }
}

Status Mover::spin(BatchId batch) {
  for (size_t task = 0; task < requests_.size();) {
    const Result<TransferStatus> status = engine_.status(batch, task);
    if (!status.ok()) return status.status();
    if (is_terminal(status->state)) ++task;
  }
  return {};
}

Status Mover::await(BatchId batch) {
  if (load_.waiting == Waiting::kSleep) return engine_.wait(batch);
  if (load_.waiting == Waiting::kSpin) return spin(batch);
  for (;;) {
    const Status status = engine_.wait(batch, std::chrono::milliseconds(0));
    if (status.code() != Code::kTimeout) return status;
  }
}

}  // namespace te::bench
