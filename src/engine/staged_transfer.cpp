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

// At once, at either end: the GPU begins one as soon as it ends another.
constexpr uint64_t kCopies = 2;
static_assert(Staging::kParts > kCopies);
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
  // Before the request's end is reported: the buffer may be unregistered then.
  pinned_ = nullptr;
  device_ = nullptr;
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
  device_ = staging_.memory_.device_at(reinterpret_cast<uint64_t>(task_.source));
  const Result<std::byte*> parts = staging_.take_parts();
  if (!parts.ok()) return parts.status();
  parts_ = *parts;
  pinned_ = device_->pin(parts_, Staging::kParts * staging_.config_.staging_part_bytes);
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

// Beside the transfer of a part are the local copy of the next one and the remote copies of the two
// before.
Status StagedTransfer::write() {
  if (parts_ != nullptr) TE_RETURN_IF_ERROR(begin_local_copy(part(0)));
  for (uint64_t k = 0; k <= count_; ++k) {
    if (parts_ != nullptr) {
      const bool more = k + 1 < count_;
      if (more) TE_RETURN_IF_ERROR(begin_local_copy(part(k + 1)));
      TE_RETURN_IF_ERROR(end_local_copies(more ? 1 : 0));
    }
    if (k > 0) {
      TE_RETURN_IF_ERROR(end_transfer());
      if (lease_) begin_remote_copy(part(k - 1));
      if (!lease_) moved(part(k - 1));
    }
    // Then the parts that this one takes the place of are free.
    TE_RETURN_IF_ERROR(end_remote_copies(kCopies));
    if (k < count_) TE_RETURN_IF_ERROR(begin_transfer(part(k)));
  }
  return end_remote_copies(0);
}

Status StagedTransfer::read() {
  uint64_t asked = 0;
  while (lease_ && asked < std::min(count_, kCopies)) begin_remote_copy(part(asked++));
  for (uint64_t k = 0; k < count_; ++k) {
    if (lease_) TE_RETURN_IF_ERROR(end_remote_copies(remote_copies_.size() - 1));
    TE_RETURN_IF_ERROR(end_local_copies(kCopies));
    TE_RETURN_IF_ERROR(begin_transfer(part(k)));
    if (lease_ && asked < count_) begin_remote_copy(part(asked++));
    TE_RETURN_IF_ERROR(end_transfer());
    if (parts_ == nullptr) {
      moved(part(k));
    } else {
      TE_RETURN_IF_ERROR(begin_local_copy(part(k)));
    }
  }
  return end_local_copies(0);
}

// Local memory is quiet afterwards. What the target copies is closed with the lease.
void StagedTransfer::abandon() {
  for (LocalCopy& each : local_copies_) (void)each.pending->wait();
  local_copies_.clear();
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

Status StagedTransfer::begin_local_copy(const Part& part) {
  if (cancelled()) return not_wanted();
  std::byte* const memory = task_.source + part.begin;
  const MemoryCopy copy = task_.first.opcode == Opcode::kWrite
                              ? MemoryCopy{local(part), memory, part.length}
                              : MemoryCopy{memory, local(part), part.length};
  Result<std::unique_ptr<PendingCopies>> pending = device_->start({&copy, 1});
  if (!pending.ok()) return local_failure(part, pending.status());
  local_copies_.push_back({part, pending.take()});
  return {};
}

Status StagedTransfer::end_local_copies(size_t left) {
  while (local_copies_.size() > left) {
    const LocalCopy first = std::move(local_copies_.front());
    local_copies_.pop_front();
    const Status status = first.pending->wait();
    if (!status.ok()) return local_failure(first.part, status);
    if (task_.first.opcode == Opcode::kRead) moved(first.part);
  }
  return {};
}

Status StagedTransfer::local_failure(const Part& part, const Status& why) const {
  return why.with_context(fmt::format("copying {} bytes of local {} at {}", part.length,
                                      kind_name(task_.kind),
                                      static_cast<void*>(task_.source + part.begin)));
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
  const stage::Copy hello{lease_->id,
                          ++lease_->sequence,
                          part.slot,
                          task_.first.opcode == Opcode::kRead,
                          request_.address + part.begin,
                          part.length,
                          request_.key};
  remote_copies_.push_back({part, hello, staging_.ask(request_.instance, hello)});
}

Status StagedTransfer::end_remote_copies(size_t left) {
  while (remote_copies_.size() > left) {
    RemoteCopy first = std::move(remote_copies_.front());
    remote_copies_.pop_front();
    TE_RETURN_IF_ERROR(await(first.hello, std::move(first.answer)).status());
    if (task_.first.opcode == Opcode::kWrite) moved(first.part);
  }
  return {};
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
