// The way down of a list: one task, whose slices each have a range of their own at the target.
#include <algorithm>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/log.h"
#include "core/plan.h"
#include "core/transfer_list.h"
#include "engine/batch_event.h"
#include "engine/submission_plan.h"

namespace te {
namespace {

constexpr uint64_t kMostSlices = BatchTable::kMaxSize;

struct Heading {
  std::pair<Opcode, SegmentId> operator()(std::monostate) const { return {}; }
  template <typename List>
  std::pair<Opcode, SegmentId> operator()(const List* list) const {
    return {list->opcode, list->target_id};
  }
};

}  // namespace

// Cuts ranges into slices. Most ranges lie in the buffers of the one before: these, and the way to
// them, are looked up when that changes.
class Transfers::ListPlanner {
 public:
  ListPlanner(Transfers& transfers, Opcode opcode, Task& task, Plan& plan)
      : transfers_(transfers), opcode_(opcode), task_(task), plan_(plan) {}

  Status add(const ListRange& range) {
    const uint64_t source = reinterpret_cast<uint64_t>(range.source) - local_begin_;
    const uint64_t target = range.target_offset - remote_begin_;
    if (source < local_length_ && range.length <= local_length_ - source &&
        target < remote_length_ && range.length <= remote_length_ - target) {
      return cut(range, address_ + target, path_);
    }
    return add_parts(range);
  }
  uint64_t bytes() const { return bytes_; }
  uint64_t slices() const { return count_; }

 private:
  // What was merged may go on in the next buffer, here or at the target.
  Status add_parts(ListRange range) {
    while (range.length > 0) {
      ListRange part = range;
      TE_RETURN_IF_ERROR(add_start(part));
      range.source += part.length;
      range.target_offset += part.length;
      range.length -= part.length;
    }
    return {};
  }

  // As much as lies in one buffer at either end, which `part` is then.
  Status add_start(ListRange& part) {
    TE_RETURN_IF_ERROR(transfers_.find_source(
        {opcode_, part.source, plan_.segment_id, part.target_offset, 1}, plan_));
    if (plan_.buffer != local_) TE_RETURN_IF_ERROR(change_local(part));
    const uint64_t source = reinterpret_cast<uint64_t>(part.source) - local_begin_;
    part.length = std::min(part.length, local_length_ - source);
    if (part.target_offset < remote_begin_ ||
        part.target_offset - remote_begin_ >= remote_length_) {
      Status status = change_remote(part);
      if (!status.ok()) {
        if (!transfers_.may_come(status, part.target_offset, part.length, plan_)) return status;
        staged_ = {};
        slice_bytes_ = transfers_.config_.slice_bytes;
        return cut(part, 0, nullptr);
      }
    }
    const uint64_t begin = part.target_offset - remote_begin_;
    part.length = std::min(part.length, remote_length_ - begin);
    return cut(part, address_ + begin, path_);
  }

  Status change_local(const ListRange& range) {
    if (local_ != nullptr && plan_.buffer->kind != task_.kind) {
      return Status(Code::kInvalidArgument,
                    "the local buffers of a list are of different kinds of memory: submit a list "
                    "for each");
    }
    if (plan_.buffer->device) {
      TE_RETURN_IF_ERROR(plan_.buffer->device->check(range.source, 1));
    }
    local_ = plan_.buffer;
    local_begin_ = local_->address;
    local_length_ = local_->length;
    task_.kind = local_->kind;
    remote_length_ = 0;  // the path depends on both
    return {};
  }

  // To where the first byte goes.
  Status change_remote(const ListRange& range) {
    const Target& target = *plan_.target;
    const Addressing addressing = task_.submission->addressing;
    remote_length_ = 0;
    uint64_t address = 0;
    const Result<size_t> found = target.descriptor.resolve(
        {range.target_offset, 1, target_rights(opcode_), addressing}, &address);
    if (!found.ok()) {
      return found.status().with_context(fmt::format("segment '{}'", target.segment));
    }
    path_ = choose_path(target, *found, {task_.kind, range.source}, nullptr, &key_);
    slice_bytes_ = transfers_.config_.slice_bytes;
    staged_ = {};
    if (path_ != nullptr) {
      slice_bytes_ = std::min(slice_bytes_, path_->transport.capabilities().slice_bytes);
    } else {
      const std::byte* key = nullptr;
      staged_.ends = find_staged_ends(target, *found, {task_.kind, range.source}, &key);
      if (!staged_.ends.any()) return no_path(target, *found, task_.kind);
      staged_.instance = target.descriptor.instance;
      staged_.range.local_buffer = local_begin_;
      staged_.range.remote_buffer = target.descriptor.buffer(*found).address;
      if (staged_.ends.remote) staged_.range.key = AccessKey::decode(key);
    }
    const RemoteBuffer& buffer = target.descriptor.buffer(*found);
    // Where a number of the buffer might mean something else, each is looked up.
    const bool ambiguous = addressing == Addressing::kAuto && !target.descriptor.ambiguous.empty();
    const uint64_t begin = address - buffer.address;
    remote_begin_ = range.target_offset - (ambiguous ? 0 : begin);
    remote_length_ = ambiguous ? std::min(range.length, buffer.length - begin) : buffer.length;
    address_ = ambiguous ? address : buffer.address;
    return {};
  }

  // On a path, staged, or neither: then recovery asks the target.
  Status cut(const ListRange& range, uint64_t address, Path* path) {
    ListSlices& slices = plan_.submission->list_slices;
    for (uint64_t begin = 0; begin < range.length; begin += slice_bytes_) {
      if (count_ == kMostSlices) {
        return error(Code::kInvalidArgument, "the list has more than {} slices: submit it in parts",
                     kMostSlices);
      }
      ListSlice& slice = slices.add();
      ++count_;
      slice.task = &task_;
      slice.path = path;
      slice.local = range.source + begin;
      slice.remote_address = address + begin;
      slice.key = key_;
      slice.length = static_cast<uint32_t>(std::min(slice_bytes_, range.length - begin));
      slice.opcode = opcode_;
      slice.attempts = 0;
      slice.target_offset = range.target_offset + begin;
      if (path != nullptr) {
        append(&slice);
      } else if (staged_.ends.any()) {
        StagedRequest& request = plan_.staged.emplace_back(staged_);
        request.range.slice = &slice;
        request.range.local = slice.local;
        request.range.address = slice.remote_address;
        request.range.length = slice.length;
      } else {
        plan_.unknown_slices.push(&slice);
      }
    }
    bytes_ += range.length;
    return {};
  }

  // To those of its path, which are mostly those of the slice before.
  void append(Slice* slice) {
    if (posted_ == nullptr || posted_->slices.first->path != slice->path) {
      posted_ = &posted_for(slice, plan_);
    }
    posted_->slices.push(slice);
    posted_->bytes += slice->length;
  }

  Transfers& transfers_;
  const Opcode opcode_;
  Task& task_;
  Plan& plan_;
  Posted* posted_ = nullptr;
  const Buffer* local_ = nullptr;
  uint64_t local_begin_ = 0;
  uint64_t local_length_ = 0;
  // Numbers from `remote_begin_` on mean what is at `address_` at the target.
  uint64_t remote_begin_ = 0;
  uint64_t remote_length_ = 0;
  uint64_t address_ = 0;
  const std::byte* key_ = nullptr;
  Path* path_ = nullptr;
  StagedRequest staged_;  // as every slice is; no end: slices are posted to the path
  uint64_t slice_bytes_ = 0;
  uint64_t bytes_ = 0;
  uint64_t count_ = 0;
};

Status Transfers::plan_list(const SubmitOptions& options, Plan& plan) try {
  const auto [opcode, segment] = std::visit(Heading(), plan.list);
  TE_RETURN_IF_ERROR(find_segment(segment, plan));
  Task& task = plan.block->tasks[plan.submission->first_task];
  task.submission = plan.submission;
  task.segment = plan.segment;
  task.instance = plan.target->descriptor.instance;
  task.source = nullptr;
  task.target_offset = 0;
  task.kind = MemoryKind::kHost;
  task.is_list = true;
  task.staged = false;
  task.transferred.store(0, std::memory_order_relaxed);
  task.failure.store(Code::kOk, std::memory_order_relaxed);
  task.slices_left.store(0, std::memory_order_relaxed);
  ListPlanner planner(*this, opcode, task, plan);
  TE_RETURN_IF_ERROR(std::visit(
      [&planner](const auto& list) -> Status {
        if constexpr (std::is_same_v<std::decay_t<decltype(list)>, std::monostate>) {
          return {};
        } else {
          return for_each_range(*list,
                                [&planner](const ListRange& range) { return planner.add(range); });
        }
      },
      plan.list));
  task.length = planner.bytes();
  task.slices_left.store(static_cast<uint32_t>(planner.slices()), std::memory_order_relaxed);
  if (task.length == 0) plan.empty.push_back(&task);
  plan.submission->notification = options.notification;
  return {};
} catch (const std::bad_alloc&) {
  return Status(Code::kResource, "there is no memory to plan the list: submit it in parts");
}

Status Transfers::check(AnyList list) {
  const CallCounter counted(submitting_);
  if (stopping_.load()) return Status(Code::kCancelled, "the engine ends");
  Submission submission;
  Plan plan;
  std::unique_ptr<Task[]> task(new (std::nothrow) Task[1]);
  if (!task) return Status(Code::kResource, "out of memory");
  TaskBlock block(1, std::move(task));
  plan.submission = &submission;
  plan.block = &block;
  plan.list = list;
  submission.addressing = addressing_.load(std::memory_order_relaxed);
  Status status = plan_list({}, plan);
  submission.release_pins();
  return status;
}

}  // namespace te
