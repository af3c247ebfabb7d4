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
constexpr std::chrono::milliseconds kLook{10};  // between looks whether the group is cancelled

Status not_wanted() { return Status(Code::kCancelled, "the request was cancelled"); }

}  // namespace

StagedTransfer::StagedTransfer(Staging& staging, StagedGroup& group)
    : staging_(staging), group_(group) {
  left_.reserve(group.ranges.size());
  for (const StagedRange& each : group.ranges) left_.push_back(each.length);
}

Status StagedTransfer::run() {
  if (cancelled()) return not_wanted();
  Status status = prepare();
  if (status.ok()) status = writes() ? write() : read();
  if (!status.ok()) abandon();
  if (lease_ && status.ok()) staging_.give_back_lease(*lease_);
  if (lease_ && !status.ok()) staging_.close_lease(*lease_, writes());
  if (parts_ != nullptr) staging_.give_back_parts(parts_);
  // Before the requests' end is reported: the buffer may be unregistered then.
  pinned_ = nullptr;
  return status;
}

Status StagedTransfer::prepare() {
  part_bytes_ = staging_.config_.staging_part_bytes;
  if (group_.ends.remote) {
    TE_RETURN_IF_ERROR(open_lease());
    part_bytes_ = std::min(part_bytes_, lease_->part_bytes);
  }
  divide();
  if (!group_.ends.local) return {};
  const Result<std::byte*> parts = staging_.take_parts();
  if (!parts.ok()) return parts.status();
  parts_ = *parts;
  const auto device =
      staging_.memory_.device_at(reinterpret_cast<uint64_t>(group_.ranges.front().local));
  if (device == nullptr) return {};  // unregistered in spite of the request: its copy fails
  pinned_ = device->pin(parts_, Staging::kParts * staging_.config_.staging_part_bytes);
  return {};
}

Status StagedTransfer::open_lease() {
  lease_ = staging_.take_lease(group_.instance);
  if (lease_) return {};
  const stage::Open hello{random_u64(), Staging::kParts, staging_.config_.staging_part_bytes};
  const Result<Bytes> answer = await(hello, staging_.ask(group_.instance, hello));
  StageLease lease{hello.lease, group_.instance, 0, 0, 0};
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

// The ranges in their order, end to end. A part has so many pieces at most that the target can be
// asked for all of them at once.
void StagedTransfer::divide() {
  for (size_t i = 0; i < group_.ranges.size(); ++i) {
    uint64_t begin = 0;
    while (begin < group_.ranges[i].length) {
      const bool full = all_parts_.empty() || all_parts_.back().length == part_bytes_ ||
                        all_parts_.back().count == stage::kMaxRanges;
      if (full) {
        const auto slot = static_cast<uint32_t>(all_parts_.size() % Staging::kParts);
        all_parts_.push_back({pieces_.size(), 0, 0, slot});
      }
      Part& part = all_parts_.back();
      const uint64_t length = std::min(part_bytes_ - part.length, group_.ranges[i].length - begin);
      pieces_.push_back({static_cast<uint32_t>(i), begin, part.length, length});
      part.length += length;
      ++part.count;
      begin += length;
    }
  }
}

// Beside the transfer of a part are the local copy of the next one and the remote copies of the two
// before.
Status StagedTransfer::write() {
  const size_t count = all_parts_.size();
  if (parts_ != nullptr) TE_RETURN_IF_ERROR(begin_local_copy(all_parts_[0]));
  for (size_t k = 0; k <= count; ++k) {
    if (parts_ != nullptr) {
      const bool more = k + 1 < count;
      if (more) TE_RETURN_IF_ERROR(begin_local_copy(all_parts_[k + 1]));
      TE_RETURN_IF_ERROR(end_local_copies(more ? 1 : 0));
    }
    if (k > 0) {
      TE_RETURN_IF_ERROR(end_transfer());
      if (lease_) begin_remote_copy(all_parts_[k - 1]);
      if (!lease_) moved(all_parts_[k - 1]);
    }
    // Then the parts that this one takes the place of are free.
    TE_RETURN_IF_ERROR(end_remote_copies(kCopies));
    if (k < count) TE_RETURN_IF_ERROR(begin_transfer(all_parts_[k]));
  }
  return end_remote_copies(0);
}

Status StagedTransfer::read() {
  const size_t count = all_parts_.size();
  size_t asked = 0;
  while (lease_ && asked < std::min<size_t>(count, kCopies)) {
    begin_remote_copy(all_parts_[asked++]);
  }
  for (size_t k = 0; k < count; ++k) {
    if (lease_) TE_RETURN_IF_ERROR(end_remote_copies(remote_copies_.size() - 1));
    TE_RETURN_IF_ERROR(end_local_copies(kCopies));
    TE_RETURN_IF_ERROR(begin_transfer(all_parts_[k]));
    if (lease_ && asked < count) begin_remote_copy(all_parts_[asked++]);
    TE_RETURN_IF_ERROR(end_transfer());
    if (parts_ == nullptr) {
      moved(all_parts_[k]);
    } else {
      TE_RETURN_IF_ERROR(begin_local_copy(all_parts_[k]));
    }
  }
  return end_local_copies(0);
}

// Local memory is quiet afterwards. What the target copies is closed with the lease.
void StagedTransfer::abandon() {
  for (LocalCopy& each : local_copies_) (void)each.copies.wait();
  local_copies_.clear();
  if (batch_ != kInvalidBatch) {
    (void)staging_.transfers_.cancel(batch_);
    (void)staging_.transfers_.free(batch_);
    batch_ = kInvalidBatch;
  }
  forget_unfinished();
}

// Ranges that are not complete begin anew, if at all.
void StagedTransfer::forget_unfinished() {
  for (size_t i = 0; i < left_.size(); ++i) {
    const StagedRange& range = group_.ranges[i];
    if (left_[i] == 0) continue;
    range.slice->task->transferred.fetch_sub(range.length - left_[i], std::memory_order_relaxed);
    left_[i] = range.length;
  }
}

void StagedTransfer::moved(const Part& part) {
  for (const Piece& piece : pieces(part)) {
    left_[piece.range] -= piece.length;
    range_of(piece).slice->task->transferred.fetch_add(piece.length, std::memory_order_relaxed);
  }
}

std::byte* StagedTransfer::local(const Part& part, const Piece& piece) const {
  if (parts_ == nullptr) return range_of(piece).local + piece.begin;
  return parts_ + part.slot * staging_.config_.staging_part_bytes + piece.in_part;
}

uint64_t StagedTransfer::remote(const Part& part, const Piece& piece) const {
  if (!lease_) return range_of(piece).address + piece.begin;
  return lease_->address + part.slot * lease_->part_bytes + piece.in_part;
}

Status StagedTransfer::begin_local_copy(const Part& part) {
  if (cancelled()) return not_wanted();
  LocalCopy& begun = local_copies_.emplace_back(LocalCopy{&part, {}});
  std::shared_ptr<const DeviceMemory> device;
  uint64_t buffer = 0;  // that it is of
  for (const Piece& piece : pieces(part)) {
    const StagedRange& range = range_of(piece);
    if (device == nullptr || range.local_buffer == 0 || range.local_buffer != buffer) {
      device = staging_.memory_.device_at(reinterpret_cast<uint64_t>(range.local));
      buffer = range.local_buffer;
    }
    if (device == nullptr) return Status(Code::kInternal, "the local buffer is gone");
    std::byte* const memory = range.local + piece.begin;
    std::byte* const in_part = local(part, piece);
    begun.copies.add(device, writes() ? MemoryCopy{in_part, memory, piece.length}
                                      : MemoryCopy{memory, in_part, piece.length});
  }
  const Status started = begun.copies.start();
  return started.ok() ? started : local_failure(part, started);
}

Status StagedTransfer::end_local_copies(size_t left) {
  while (local_copies_.size() > left) {
    LocalCopy first = std::move(local_copies_.front());
    local_copies_.pop_front();
    const Status status = first.copies.wait();
    if (!status.ok()) return local_failure(*first.part, status);
    if (!writes()) moved(*first.part);
  }
  return {};
}

Status StagedTransfer::local_failure(const Part& part, const Status& why) const {
  const Piece& first = pieces(part).front();
  const StagedRange& range = range_of(first);
  return why.with_context(fmt::format("copying {} bytes of local {} at {}", part.length,
                                      kind_name(range.slice->task->kind),
                                      static_cast<void*>(range.local + first.begin)));
}

// A request of the transfer lies inside one buffer at either end.
std::vector<TransferRequest> StagedTransfer::transfers_of(const Part& part) const {
  std::vector<TransferRequest> requests;
  const StagedRange* before = nullptr;
  for (const Piece& piece : pieces(part)) {
    const StagedRange& range = range_of(piece);
    std::byte* const here = local(part, piece);
    const uint64_t there = remote(part, piece);
    const bool same_here = parts_ != nullptr || before == &range ||
                           (before != nullptr && range.local_buffer != 0 &&
                            before->local_buffer == range.local_buffer);
    const bool same_there = lease_ || before == &range ||
                            (before != nullptr && before->remote_buffer == range.remote_buffer);
    before = &range;
    if (!requests.empty() && same_here && same_there) {
      TransferRequest& last = requests.back();
      if (static_cast<std::byte*>(last.source) + last.length == here &&
          last.target_offset + last.length == there) {
        last.length += piece.length;
        continue;
      }
    }
    requests.push_back({group_.opcode(), here, kLocalSegment, there, piece.length});
  }
  return requests;
}

Status StagedTransfer::begin_transfer(const Part& part) {
  if (cancelled()) return not_wanted();
  const std::vector<TransferRequest> requests = transfers_of(part);
  const Result<BatchId> batch = staging_.transfers_.allocate(requests.size());
  if (!batch.ok()) return batch.status();
  batch_ = *batch;
  batch_tasks_ = requests.size();
  const Status status =
      staging_.transfers_.submit_to(batch_, requests, group_.segment, group_.instance);
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
  Status why;
  for (size_t i = 0; why.ok() && i < batch_tasks_; ++i) {
    const Result<TaskError> error = transfers.task_error(batch, i);
    why = error.ok() ? error->status : error.status();
  }
  (void)transfers.free(batch);
  if (end.ok() && end->state == TaskState::kCompleted) return {};
  if (cancelled()) return not_wanted();
  if (why.ok()) return Status(Code::kInternal, "a part was not transferred");
  // The target took the lease away, or another run of it is there.
  const bool lost = lease_ && why.code() == Code::kOutOfRange;
  worth_another_ = lost || why.code() == Code::kStale;
  return why;
}

void StagedTransfer::begin_remote_copy(const Part& part) {
  stage::Copy hello{lease_->id, ++lease_->sequence, part.slot, !writes(), {}};
  for (const Piece& piece : pieces(part)) {
    const StagedRange& range = range_of(piece);
    const uint64_t address = range.address + piece.begin;
    if (!hello.ranges.empty()) {
      stage::Range& last = hello.ranges.back();
      if (last.address + last.length == address && last.key.secret == range.key.secret) {
        last.length += piece.length;
        continue;
      }
    }
    hello.ranges.push_back({address, piece.length, range.key});
  }
  Staging::Answered answer = staging_.ask(group_.instance, hello);
  remote_copies_.push_back({&part, std::move(hello), std::move(answer)});
}

Status StagedTransfer::end_remote_copies(size_t left) {
  while (remote_copies_.size() > left) {
    RemoteCopy first = std::move(remote_copies_.front());
    remote_copies_.pop_front();
    TE_RETURN_IF_ERROR(await(first.hello, std::move(first.answer)).status());
    if (writes()) moved(*first.part);
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
      answer = staging_.ask(group_.instance, hello);
      continue;
    }
    const Code code = result->code();
    worth_another_ = code == Code::kUnavailable || code == Code::kStale || code == Code::kNotFound;
    return std::move(*result);
  }
}

}  // namespace te
