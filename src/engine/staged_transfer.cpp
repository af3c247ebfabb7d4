#include "engine/staged_transfer.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "engine/transfers.h"

namespace te {
namespace {

constexpr std::chrono::milliseconds kLook{10};  // between looks whether the request is cancelled

Status not_wanted() { return Status(Code::kCancelled, "the request was cancelled"); }

}  // namespace

Status StagedTransfer::run() {
  Status status = prepare();
  if (status.ok()) status = task_.first.opcode == Opcode::kWrite ? write() : read();
  if (!status.ok()) abandon();
  if (lease_ && status.ok()) staging_.give_back_lease(*lease_);
  if (lease_ && !status.ok()) {
    staging_.close_lease(*lease_, task_.first.opcode == Opcode::kWrite);
  }
  if (parts_ != nullptr) staging_.give_back_parts(parts_);
  return status;
}

Status StagedTransfer::prepare() {
  part_bytes_ = staging_.config_.staging_part_bytes;
  if (request_.ends.remote) {
    TE_RETURN_IF_ERROR(open_lease());
    part_bytes_ = std::min(part_bytes_, lease_->part_bytes);
  }
  count_ = (task_.length + part_bytes_ - 1) / part_bytes_;
  if (!request_.ends.local) return {};
  driver_ = staging_.memory_.driver(task_.kind);
  const Result<std::byte*> parts = staging_.take_parts();
  if (!parts.ok()) return parts.status();
  parts_ = *parts;
  return {};
}

Status StagedTransfer::open_lease() {
  lease_ = staging_.take_lease(request_.instance);
  if (lease_) return {};
  const stage::Open hello{random_u64(), Staging::kParts, staging_.config_.staging_part_bytes};
  const Result<Bytes> answer = await(hello, staging_.ask(request_.instance, hello));
  StageLease lease{hello.lease, request_.instance, 0, 0, 0};
  if (!answer.ok()) {
    staging_.close_lease(lease, false);  // it may have been granted
    return answer.status();
  }
  const Result<stage::Opened> opened = stage::decode_answer(as_bytes(*answer));
  if (!opened.ok()) return opened.status();
  lease.address = opened->address;
  lease.part_bytes = opened->part_bytes;
  lease_ = lease;
  return {};
}

Status StagedTransfer::write() {
  for (uint64_t k = 0; k <= count_; ++k) {
    // Beside the transfer of the part before, and the remote copy of the one before that.
    if (k < count_ && parts_ != nullptr) TE_RETURN_IF_ERROR(copy_local(part(k)));
    if (k > 0) {
      TE_RETURN_IF_ERROR(end_transfer());
      if (!lease_) moved(part(k - 1));
    }
    if (lease_ && k > 1) {
      TE_RETURN_IF_ERROR(end_remote_copy());
      moved(part(k - 2));
    }
    if (lease_ && k > 0) begin_remote_copy(part(k - 1));
    if (k < count_) TE_RETURN_IF_ERROR(begin_transfer(part(k)));
  }
  if (!lease_) return {};
  TE_RETURN_IF_ERROR(end_remote_copy());
  moved(part(count_ - 1));
  return {};
}

Status StagedTransfer::read() {
  if (lease_) begin_remote_copy(part(0));
  for (uint64_t k = 0; k <= count_; ++k) {
    if (k < count_) {
      if (lease_) TE_RETURN_IF_ERROR(end_remote_copy());
      TE_RETURN_IF_ERROR(begin_transfer(part(k)));
    }
    // Both beside that transfer.
    if (lease_ && k + 1 < count_) begin_remote_copy(part(k + 1));
    if (k > 0) {
      if (parts_ != nullptr) TE_RETURN_IF_ERROR(copy_local(part(k - 1)));
      moved(part(k - 1));
    }
    if (k < count_) TE_RETURN_IF_ERROR(end_transfer());
  }
  return {};
}

// Local memory is quiet afterwards. What the target copies is closed with the lease.
void StagedTransfer::abandon() {
  if (batch_ == kInvalidBatch) return;
  (void)staging_.transfers_.cancel(batch_);
  (void)staging_.transfers_.free(batch_);
  batch_ = kInvalidBatch;
}

StagedTransfer::Part StagedTransfer::part(uint64_t number) const {
  const uint64_t begin = number * part_bytes_;
  return {begin, std::min(part_bytes_, task_.length - begin),
          static_cast<uint32_t>(number % Staging::kParts)};
}

std::byte* StagedTransfer::local(const Part& part) const {
  if (parts_ == nullptr) return task_.source + part.begin;
  return parts_ + part.slot * staging_.config_.staging_part_bytes;
}

Status StagedTransfer::copy_local(const Part& part) const {
  if (cancelled()) return not_wanted();
  std::byte* const memory = task_.source + part.begin;
  const Status status = task_.first.opcode == Opcode::kWrite
                            ? driver_->copy_to_host(local(part), memory, part.length)
                            : driver_->copy_from_host(memory, local(part), part.length);
  if (status.ok()) return {};
  return status.with_context(fmt::format("copying {} bytes of local {} at {}", part.length,
                                         kind_name(task_.kind), static_cast<void*>(memory)));
}

Status StagedTransfer::begin_transfer(const Part& part) {
  if (cancelled()) return not_wanted();
  const Result<BatchId> batch = staging_.transfers_.allocate(1);
  if (!batch.ok()) return batch.status();
  batch_ = *batch;
  const uint64_t there =
      lease_ ? lease_->address + part.slot * lease_->part_bytes : request_.address + part.begin;
  const Status status = staging_.transfers_.submit_to(
      batch_, {task_.first.opcode, local(part), kLocalSegment, there, part.length},
      request_.segment, request_.instance);
  worth_another_ = status.code() == Code::kStale;
  return status;
}

Status StagedTransfer::end_transfer() {
  Transfers& transfers = staging_.transfers_;
  while (transfers.wait(batch_, kLook).code() == Code::kTimeout) {
    if (cancelled()) (void)transfers.cancel(batch_);
  }
  const BatchId batch = std::exchange(batch_, kInvalidBatch);
  const Result<TransferStatus> end = transfers.batch_status(batch);
  const Result<TaskError> why = transfers.task_error(batch, 0);
  (void)transfers.free(batch);
  if (end.ok() && end->state == TaskState::kCompleted) return {};
  if (cancelled()) return not_wanted();
  if (!why.ok() || why->status.ok()) return Status(Code::kInternal, "a part was not transferred");
  // The target took the lease away, or another run of it is there.
  const bool lost = lease_ && why->status.code() == Code::kOutOfRange;
  worth_another_ = lost || why->status.code() == Code::kStale;
  return why->status;
}

void StagedTransfer::begin_remote_copy(const Part& part) {
  remote_copy_ = stage::Copy{lease_->id,
                             ++lease_->sequence,
                             part.slot,
                             task_.first.opcode == Opcode::kRead,
                             request_.address + part.begin,
                             part.length,
                             request_.key};
  remote_answer_ = staging_.ask(request_.instance, *remote_copy_);
}

Status StagedTransfer::end_remote_copy() {
  return await(*remote_copy_, std::move(remote_answer_)).status();
}

Result<Bytes> StagedTransfer::await(const stage::Hello& hello, Staging::Answered answer) {
  for (;;) {
    const int64_t until = now_ns() + std::chrono::nanoseconds(kLook).count();
    std::optional<Result<Bytes>> result = answer->get_until(until);
    if (cancelled()) return not_wanted();
    if (!result) continue;
    if (result->code() == Code::kBusy) {
      std::this_thread::sleep_for(kLook);
      answer = staging_.ask(request_.instance, hello);
      continue;
    }
    const Code code = result->code();
    worth_another_ = code == Code::kUnavailable || code == Code::kStale || code == Code::kNotFound;
    return std::move(*result);
  }
}

}  // namespace te
