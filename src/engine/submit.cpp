// The way down: requests are checked, planned into slices, and posted.
#include <algorithm>
#include <cstddef>
#include <new>
#include <optional>

#include "base/clock.h"
#include "base/counts.h"
#include "base/log.h"
#include "core/plan.h"
#include "engine/batch_event.h"
#include "engine/notifier.h"
#include "engine/submission_plan.h"
#include "engine/transfers.h"

namespace te {

namespace {

Status restarted(const Segment& segment) {
  return error(Code::kStale, "'{}' restarted in the middle of the request", segment.name);
}

bool follows_work(const SubmitOptions& options) {
  return options.after_event != nullptr || options.after_stream != nullptr;
}

}  // namespace

bool Transfers::may_come(const Status& status, uint64_t offset, uint64_t length,
                         const Plan& plan) const {
  if (plan.segment->self || offset + length < length) return false;
  if (status.code() == Code::kUnavailable) return segments_.reach_peers();
  return status.code() == Code::kOutOfRange || status.code() == Code::kPermission;
}

Status Transfers::find_source(const TransferRequest& request, Plan& plan) {
  const auto source = reinterpret_cast<uint64_t>(request.source);
  const Buffer* known = plan.buffer;
  if (known == nullptr || source < known->address || source - known->address >= known->length) {
    ReaderLock lock(memory_.mutex());
    Buffer* buffer = memory_.registry().find(source);
    if (buffer == nullptr || buffer->registering()) {
      return error(Code::kInvalidArgument,
                   "the source {:#x} is not in registered memory: register it first", source);
    }
    if (!buffer->pin()) {
      return error(Code::kBusy, "the source {:#x} is in a buffer that is being unregistered",
                   source);
    }
    plan.submission->pins.push_back(buffer);
    plan.buffer = buffer;
  }
  const Buffer& buffer = *plan.buffer;
  const uint64_t left = buffer.length - (source - buffer.address);
  if (request.length > left) {
    return error(
        Code::kInvalidArgument,
        "only {} of the {} bytes at source {:#x} are in the registered buffer of {} bytes at "
        "{:#x}: a request lies inside one buffer",
        left, request.length, source, buffer.length, buffer.address);
  }
  if (!plan.discarded && !contains(buffer.local, source_rights(request.opcode))) {
    return error(
        Code::kPermission,
        "the local buffer of {} bytes at {:#x} cannot be {}: this process has it mapped "
        "for {} only",
        buffer.length, buffer.address,
        request.opcode == Opcode::kRead ? "written, which a READ does" : "read, which a WRITE does",
        buffer.local == Rights::kRead ? "reading" : "writing");
  }
  return {};
}

Status Transfers::find_segment(SegmentId id, Plan& plan) {
  if (plan.segment != nullptr && id == plan.segment_id) return {};
  Submission::Use use = segments_.find_for_use(id);
  if (!use.segment) {
    return error(Code::kNotFound, "there is no open segment with id {}: open it first", id);
  }
  if (use.segment->self) {
    segments_.refresh_self(*use.segment);
    use.target = use.segment->target();
  }
  plan.segment_id = id;
  plan.segment = use.segment.get();
  plan.target = use.target.get();
  plan.submission->uses.add(std::move(use));
  return {};
}

Transfers::Posted& Transfers::posted_for(const Slice* slice, Plan& plan) {
  Posted* posted = plan.posted.find_recent([slice](const Posted& each) {
    return each.slices.empty() || each.slices.first->path == slice->path;
  });
  return posted != nullptr ? *posted : plan.posted.add({});
}

void Transfers::append(Slice* slice, Plan& plan) {
  Posted& posted = posted_for(slice, plan);
  posted.slices.push(slice);
  posted.bytes += slice->length;
}

Status Transfers::cut(Task& task, Opcode opcode, const Target& target, Plan& plan) {
  uint64_t address = 0;
  Result<size_t> buffer = target.descriptor.resolve(
      {task.target_offset, task.length, target_rights(opcode), task.submission->addressing},
      &address);
  if (!buffer.ok()) {
    return buffer.status().with_context(fmt::format("segment '{}'", target.segment));
  }
  const std::byte* key = nullptr;
  Path* path = choose_path(target, *buffer, {task.kind, task.source}, nullptr, &key);
  if (path == nullptr) return stage(task, opcode, target, *buffer, address, plan);
  const Capabilities capabilities = path->transport.capabilities();
  // A NIC has the pages that were registered, whatever became of the memory. Copies are checked
  // when they are made.
  if (task.kind != MemoryKind::kHost && !capabilities.within_host) {
    const std::shared_ptr<const DeviceMemory> device =
        memory_.device_at(reinterpret_cast<uint64_t>(task.source));
    if (device != nullptr) TE_RETURN_IF_ERROR(device->check(task.source, task.length));
  }
  const bool on_device =
      task.kind != MemoryKind::kHost || target.descriptor.buffer(*buffer).kind != MemoryKind::kHost;
  const uint64_t slice_bytes = on_device && capabilities.device_slice_bytes != 0
                                   ? capabilities.device_slice_bytes
                                   : std::min(config_.slice_bytes, capabilities.slice_bytes);
  const uint64_t count = slice_count(task.length, slice_bytes);
  Slice* extra = nullptr;
  if (count > 1) {
    auto slices = std::make_unique<Slice[]>(count - 1);
    extra = slices.get();
    plan.extra_slices->push_back(std::move(slices));
  }
  task.slices_left.store(static_cast<uint32_t>(count), std::memory_order_relaxed);
  for (uint64_t i = 0; i < count; ++i) {
    Slice& slice = i == 0 ? task.first : extra[i - 1];
    const uint64_t begin = i * slice_bytes;
    slice.task = &task;
    slice.path = path;
    slice.local = task.source + begin;
    slice.remote_address = address + begin;
    slice.key = key;
    slice.length = static_cast<uint32_t>(std::min(slice_bytes, task.length - begin));
    slice.opcode = opcode;
    slice.attempts = 0;
    append(&slice, plan);
  }
  return {};
}

// As one slice on no path, which Staging ends.
Status Transfers::stage(Task& task, Opcode opcode, const Target& target, size_t buffer,
                        uint64_t address, Plan& plan) {
  const std::byte* key = nullptr;
  const StagedEnds ends = find_staged_ends(target, buffer, {task.kind, task.source}, &key);
  if (!ends.any()) return no_path(target, buffer, task.kind);
  task.slices_left.store(1, std::memory_order_relaxed);
  task.first = {};
  task.first.task = &task;
  task.first.opcode = opcode;
  task.first.attempts = plan.attempts;
  StagedRequest request;
  request.ends = ends;
  request.instance = target.descriptor.instance;
  request.range.slice = &task.first;
  request.range.local = task.source;
  request.range.local_buffer =
      plan.buffer != nullptr ? plan.buffer->address : local_buffer_at(task.source);
  request.range.address = address;
  request.range.remote_buffer = target.descriptor.buffer(buffer).address;
  request.range.length = task.length;
  if (ends.remote) request.range.key = AccessKey::decode(key);
  plan.staged.push_back(std::move(request));
  return {};
}

uint64_t Transfers::local_buffer_at(const std::byte* address) {
  ReaderLock lock(memory_.mutex());
  const Buffer* buffer = memory_.registry().find(reinterpret_cast<uint64_t>(address));
  return buffer == nullptr ? 0 : buffer->address;
}

Status Transfers::stage(Slice& slice, const Target& target, size_t buffer, uint64_t address,
                        StagedRequest* request) {
  const MemoryKind kind = slice.task->kind;
  const std::byte* key = nullptr;
  const StagedEnds ends = find_staged_ends(target, buffer, {kind, slice.local}, &key);
  if (!ends.any()) return no_path(target, buffer, kind);
  request->ends = ends;
  request->instance = target.descriptor.instance;
  request->range.slice = &slice;
  request->range.local = slice.local;
  request->range.local_buffer = local_buffer_at(slice.local);
  request->range.address = address;
  request->range.remote_buffer = target.descriptor.buffer(buffer).address;
  request->range.length = slice.length;
  if (ends.remote) request->range.key = AccessKey::decode(key);
  return {};
}

void Transfers::stage_again(Slice& slice) {
  slice.attempts = static_cast<uint8_t>(slice.attempts + 1);
  recovery_.add(segment_of(*slice.task), &slice, Code::kUnavailable);
}

// As one slice on no path, which recovery plans once the target was asked.
void Transfers::wait_for_target(const TransferRequest& request, Task& task, Plan& plan) {
  task.slices_left.store(1, std::memory_order_relaxed);
  task.first = {};
  task.first.task = &task;
  task.first.opcode = request.opcode;
  plan.unknown.push_back(&task);
}

Status Transfers::plan_one(const TransferRequest& request, Task& task, Plan& plan) {
  if (request.opcode != Opcode::kRead && request.opcode != Opcode::kWrite) {
    return error(Code::kInvalidArgument, "opcode {} is neither READ (0) nor WRITE (1)",
                 static_cast<int>(request.opcode));
  }
  TE_RETURN_IF_ERROR(find_segment(request.target_id, plan));
  task.submission = plan.submission;
  task.segment = plan.segment;
  task.instance = plan.target->descriptor.instance;
  task.source = plan.discarded ? plan.discarded : static_cast<std::byte*>(request.source);
  task.target_offset = request.target_offset;
  task.length = request.length;
  task.transferred.store(0, std::memory_order_relaxed);
  task.failure.store(Code::kOk, std::memory_order_relaxed);
  task.is_list = false;
  task.staged = plan.bound.target != nullptr;
  if (request.length == 0) {
    task.slices_left.store(0, std::memory_order_relaxed);
    plan.empty.push_back(&task);
    return {};
  }
  if (!plan.discarded || request.source) TE_RETURN_IF_ERROR(find_source(request, plan));
  task.kind = plan.discarded ? MemoryKind::kHost : plan.buffer->kind;
  Status status = cut(task, request.opcode, *plan.target, plan);
  if (status.ok() || !may_come(status, request.target_offset, request.length, plan)) return status;
  wait_for_target(request, task, plan);
  return {};
}

Status Transfers::plan_all(std::span<const TransferRequest> requests, const SubmitOptions& options,
                           Plan& plan) try {
  for (size_t i = 0; i < requests.size(); ++i) {
    Task& task = plan.block->tasks[plan.submission->first_task + i];
    Status status = plan_one(requests[i], task, plan);
    if (status.ok() && options.notification && requests[i].target_id != requests[0].target_id) {
      status =
          Status(Code::kInvalidArgument, "requests with a notification must all go to one segment");
    }
    if (!status.ok()) {
      return requests.size() == 1 ? status : status.with_context(fmt::format("request {}", i));
    }
  }
  plan.submission->notification = options.notification;
  return {};
} catch (const std::bad_alloc&) {
  plan.submission->extra_slices.clear();
  return error(Code::kResource, "there is no memory to plan {} requests at once: submit fewer",
               requests.size());
}

Submission& Transfers::take_submission(Batch& batch) {
  if (batch.submissions_used == batch.submissions.size()) {
    batch.submissions.push_back(std::make_unique<Submission>());
    batch.submissions.back()->batch = &batch;
  }
  return *batch.submissions[batch.submissions_used];
}

Status Transfers::accept(BatchId id, std::span<const TransferRequest> requests,
                         const SubmitOptions& options, Plan& plan) {
  const size_t count = plan.is_list() ? 1 : requests.size();
  Batch* batch = table_.find(id);
  if (batch == nullptr) return no_batch(id);
  MutexLock lock(batch->mutex);
  if (!table_.is(*batch, id) || batch->closing) return no_batch(id);
  const uint32_t used = batch->submitted.load(std::memory_order_relaxed);
  const uint32_t size = batch->size.load(std::memory_order_relaxed);
  if (count > size - used) {
    return error(Code::kNoSpace,
                 "{} not fit: the batch holds {}, of which {} used; allocate a larger one",
                 count == 1 ? "1 request does" : fmt::format("{} requests do", count), size,
                 used == 1 ? "1 is" : fmt::format("{} are", used));
  }
  Submission& submission = take_submission(*batch);
  submission.first_task = used;
  submission.task_count = static_cast<uint32_t>(count);
  submission.addressing = options.addressing == Addressing::kDefault
                              ? addressing_.load(std::memory_order_relaxed)
                              : options.addressing;
  if (plan.bound.target) {
    submission.only_instance = plan.bound.target->descriptor.instance;
    submission.uses.add(plan.bound);
  }
  plan.submission = &submission;
  plan.extra_slices = &submission.extra_slices;
  plan.block = batch->block.load(std::memory_order_relaxed);
  Status planned = plan.is_list() ? plan_list(options, plan) : plan_all(requests, options, plan);
  if (!planned.ok()) {
    submission.release_pins();
    submission.reset();
    return planned;
  }
  submission.timeout_ms = options.timeout ? std::max<int64_t>(options.timeout->count(), 0)
                                          : static_cast<int64_t>(config_.transfer_timeout_ms);
  submission.tasks_left.store(submission.task_count + 1, std::memory_order_relaxed);
  submission.data_left.store(submission.task_count, std::memory_order_relaxed);
  for (uint32_t i = 0; i < submission.task_count; ++i) {
    plan.block->tasks[used + i].state.store(TaskState::kPending, std::memory_order_relaxed);
  }
  ++batch->submissions_used;
  batch->submitted.store(used + submission.task_count, std::memory_order_release);
  if (batch->active.load(std::memory_order_relaxed) == 0) {
    set_readable(batch->event, false);
    if (batch->reports) completions_.remove(*batch);
  }
  grow(batch->active, 1);
  // Counted from here, and not from when the timer looks: the process may be stopped in between.
  // The time of the kernel's last tick would not do, since a tick may come late.
  submission.deadline_ns = deadline_after_ms(now_ns(), submission.timeout_ms);
  if (submission.deadline_ns < batch->deadline_ns.load(std::memory_order_relaxed)) {
    batch->deadline_ns.store(submission.deadline_ns, std::memory_order_relaxed);
  }
  return {};
}

Status Transfers::submit(BatchId id, std::span<const TransferRequest> requests,
                         const SubmitOptions& options) {
  const CallCounter counted(submitting_);
  if (stopping_.load()) return Status(Code::kCancelled, "the engine ends");
  if (requests.empty()) {
    if (!options.notification) return {};
    return Status(Code::kInvalidArgument,
                  "a notification with no request: send it alone, without a submission");
  }
  if (options.notification) TE_RETURN_IF_ERROR(check_notification(*options.notification));
  std::unique_ptr<DeviceWork> work;
  if (follows_work(options)) TE_RETURN_IF_ERROR(find_work(options, &work));
  Plan plan;
  TE_RETURN_IF_ERROR(accept(id, requests, options, plan));
  if (work) {
    post_after(std::move(plan), std::move(work));
  } else {
    post(plan);
  }
  return {};
}

Status Transfers::submit_list(BatchId id, AnyList list, const SubmitOptions& options) {
  const CallCounter counted(submitting_);
  if (stopping_.load()) return Status(Code::kCancelled, "the engine ends");
  if (options.notification) TE_RETURN_IF_ERROR(check_notification(*options.notification));
  std::unique_ptr<DeviceWork> work;
  if (follows_work(options)) TE_RETURN_IF_ERROR(find_work(options, &work));
  Plan plan;
  plan.list = list;
  TE_RETURN_IF_ERROR(accept(id, {}, options, plan));
  if (work) {
    post_after(std::move(plan), std::move(work));
  } else {
    post(plan);
  }
  return {};
}

Status Transfers::submit_to(BatchId id, std::span<const TransferRequest> requests,
                            const std::shared_ptr<Segment>& segment, uint64_t instance) {
  constexpr auto kNoTimeout = std::chrono::hours(24 * 365);
  const CallCounter counted(submitting_);
  if (stopping_.load()) return Status(Code::kCancelled, "the engine ends");
  if (segment->self) segments_.refresh_self(*segment);
  Plan plan;
  plan.bound = {segment, segment->target()};
  if (!plan.bound.target || plan.bound.target->descriptor.instance != instance) {
    return restarted(*segment);
  }
  plan.segment_id = requests.front().target_id;
  plan.segment = segment.get();
  plan.target = plan.bound.target.get();
  TE_RETURN_IF_ERROR(
      accept(id, requests, {.timeout = kNoTimeout, .addressing = Addressing::kAddress}, plan));
  post(plan);
  return {};
}

bool Transfers::read_to_warm_up(SegmentId segment, uint64_t address) {
  constexpr auto kLimit = std::chrono::milliseconds(100);
  std::byte there{};
  TransferRequest request{Opcode::kRead, nullptr, segment, address, 1};
  const SubmitOptions options{.timeout = kLimit, .addressing = Addressing::kAddress};
  {
    ReaderLock lock(memory_.mutex());
    const Buffer* any = memory_.registry().next_after(0);
    if (any != nullptr) request.source = reinterpret_cast<void*>(any->address);
  }
  const Result<BatchId> batch = allocate(1);
  if (!batch.ok()) return false;
  {
    const CallCounter counted(submitting_);
    Plan plan;
    plan.discarded = &there;
    if (!stopping_.load() && accept(*batch, {&request, 1}, options, plan).ok()) {
      post(plan);
    }
  }
  (void)wait(*batch, std::nullopt);
  const Result<TransferStatus> end = batch_status(*batch);
  return free(*batch).ok() && end.ok() && end->state == TaskState::kCompleted;
}

void Transfers::post(Plan& plan) {
  wake_timer();
  plan.posted.for_each([this](const Posted& each) { post(each.slices, each.bytes); });
  for (Task* task : plan.unknown) recovery_.add(segment_of(*task), &task->first, Code::kStale);
  while (!plan.unknown_slices.empty()) {
    Slice* slice = plan.unknown_slices.pop();
    recovery_.add(segment_of(*slice->task), slice, Code::kStale);
  }
  for (Task* task : plan.empty) data_done(*task);
  start(std::move(plan.staged));
  one_less(*plan.submission);
}

void Transfers::start(std::vector<StagedRequest> staged) {
  if (staged.empty()) return;
  std::shared_ptr<Segment> segment;  // most often the next one's too
  for (StagedRequest& request : staged) {
    const Task& task = *request.range.slice->task;
    if (segment.get() != task.segment) segment = segment_of(task);
    request.segment = segment;
  }
  staging_->start(std::move(staged));
}

void Transfers::post(SliceList slices, uint64_t bytes) {
  Path& path = *slices.first->path;
  path.inflight_bytes.fetch_add(bytes, std::memory_order_relaxed);
  if (fences_->any()) slices = fences_->hold(slices);
  if (!slices.empty()) path.transport.submit(slices);
}

void Transfers::post_held(SliceList slices) {
  while (!slices.empty()) {
    Transport& transport = slices.first->path->transport;
    transport.submit(take_run(slices));
  }
}

SliceOwner::Outcome Transfers::plan_again(Task& task, const std::shared_ptr<Segment>& segment,
                                          const std::shared_ptr<const Target>& target,
                                          Status* why) {
  Submission& submission = *task.submission;
  Plan plan;
  plan.attempts = task.first.attempts;
  {
    MutexLock lock(submission.batch->mutex);
    plan.extra_slices = &submission.extra_slices;
    *why = cut(task, task.first.opcode, *target, plan);
    if (why->ok() && submission.uses.last().target != target) {
      submission.uses.add({segment, target});
    }
  }
  if (!why->ok()) {
    return why->code() == Code::kInvalidArgument ? Outcome::kFailed : Outcome::kNotOffered;
  }
  task.instance = target->descriptor.instance;
  task.transferred.store(0, std::memory_order_relaxed);  // what was staged begins anew
  plan.posted.for_each([this](const Posted& each) { post(each.slices, each.bytes); });
  start(std::move(plan.staged));
  return Outcome::kPosted;
}

// The ranges of a list were merged: at a target that registered again, one may go on in the next
// buffer. That part is a slice of its own then.
Status Transfers::split_at_border(ListSlice& slice, const Target& target,
                                  const std::shared_ptr<Segment>& segment) try {
  Submission& submission = *slice.task->submission;
  uint64_t address = 0;
  const Result<size_t> found = target.descriptor.resolve(
      {slice.target_offset, 1, target_rights(slice.opcode), submission.addressing}, &address);
  if (!found.ok()) return found.status();
  const RemoteBuffer& buffer = target.descriptor.buffer(*found);
  const uint64_t left = buffer.length - (address - buffer.address);
  if (slice.length <= left) return {};
  ListSlice* rest = nullptr;
  {
    MutexLock lock(submission.batch->mutex);
    rest = &submission.list_slices.add();
  }
  *rest = slice;
  rest->local += left;
  rest->target_offset += left;
  rest->length -= static_cast<uint32_t>(left);
  slice.length = static_cast<uint32_t>(left);
  slice.task->slices_left.fetch_add(1, std::memory_order_relaxed);
  recovery_.add(segment, rest, Code::kStale);
  return {};
} catch (const std::bad_alloc&) {
  return Status(Code::kResource, "there is no memory to divide a range of a list");
}

SliceOwner::Outcome Transfers::repost(Slice* slice, const std::shared_ptr<Segment>& segment,
                                      Status* why) {
  Task& task = *slice->task;
  const std::shared_ptr<const Target> target = segment->target();
  const uint64_t only = task.submission->only_instance;
  if (only != 0 && target->descriptor.instance != only) {
    *why = restarted(*segment);
    return Outcome::kFailed;
  }
  if (slice->path == nullptr && !task.is_list) return plan_again(task, segment, target, why);
  RemoteRange range{task.target_offset, task.length, target_rights(slice->opcode),
                    task.submission->addressing};
  Status divided;
  if (task.is_list) {
    auto& of_list = static_cast<ListSlice&>(*slice);
    divided = split_at_border(of_list, *target, segment);
    range.target_offset = of_list.target_offset;
    range.length = of_list.length;
  }
  uint64_t address = 0;
  Result<size_t> buffer = divided.ok() ? target->descriptor.resolve(range, &address) : divided;
  if (!buffer.ok()) {
    *why = buffer.status().with_context(fmt::format("segment '{}'", segment->name));
    return buffer.code() == Code::kInvalidArgument ? Outcome::kFailed : Outcome::kNotOffered;
  }
  if (!task.is_list) address += static_cast<uint64_t>(slice->local - task.source);
  const std::byte* key = nullptr;
  Path* path = choose_path(*target, *buffer, {task.kind, slice->local}, slice->path, &key);
  std::vector<StagedRequest> staged;
  if (path == nullptr) {
    *why = stage(*slice, *target, *buffer, address, &staged.emplace_back());
    if (!why->ok()) return Outcome::kNotOffered;
  }
  task.instance = target->descriptor.instance;
  slice->remote_address = address;
  // One that is staged keeps the path that it had, since it may be one of several.
  if (path != nullptr) slice->path = path;
  slice->key = key;
  slice->attempts = static_cast<uint8_t>(slice->attempts + 1);
  slice->next = nullptr;
  {
    Submission& submission = *task.submission;
    MutexLock lock(submission.batch->mutex);
    if (submission.uses.last().target != target) submission.uses.add({segment, target});
  }
  if (path != nullptr) post({slice, slice}, slice->length);
  start(std::move(staged));
  return Outcome::kPosted;
}

}  // namespace te
