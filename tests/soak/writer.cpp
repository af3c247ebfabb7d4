#include "soak/writer.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "soak/report.h"
#include "soak/stamp.h"

namespace te::soak {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kHangNs = 30'000 * kMs;  // after the deadline: it will not end any more
constexpr int64_t kToldTimeoutMs = 1'500;  // shorter ones may run out on a busy machine
constexpr int64_t kSweepTimeoutMs = 10'000;

std::string_view name_of(TaskState state) {
  switch (state) {
    case TaskState::kWaiting:
      return "WAITING";
    case TaskState::kPending:
      return "PENDING";
    case TaskState::kInvalid:
      return "INVALID";
    case TaskState::kCancelled:
      return "CANCELLED";
    case TaskState::kCompleted:
      return "COMPLETED";
    case TaskState::kTimeout:
      return "TIMEOUT";
    case TaskState::kFailed:
      return "FAILED";
  }
  return "?";
}

}  // namespace

Writer::Writer(Shared& shared, size_t thread, size_t fragile_slot)
    : shared_(shared),
      thread_(thread),
      writer_(shared.settings.index * (shared.settings.shape.threads + 1) + thread),
      local_(shared.fragile, fragile_slot * kLocalSlotBytes, writer_ * 64 + fragile_slot) {}

Place Writer::place(size_t target, size_t buffer, size_t slot) const {
  return {target, buffer, writer_, slot};
}

RangeModel Writer::model(const Place& place) {
  return {place.id(), shared_.ledger[ledger_index(place, shared_.settings.shape)]};
}

uint64_t Writer::epoch(const Place& place) const {
  return shared_.world.target(place.target).epochs[place.buffer];
}

void Writer::replace_dead() {
  for (size_t target = 0; target < shared_.settings.shape.targets; ++target) {
    for (size_t i = 0; i < kBuffers * kSlots; ++i) {
      model(place(target, i / kSlots, i % kSlots)).replace_writer();
    }
  }
}

void Writer::settle() {
  for (size_t target = 0; target < shared_.settings.shape.targets; ++target) {
    for (size_t i = 0; i < kBuffers * kSlots; ++i) {
      model(place(target, i / kSlots, i % kSlots)).settle();
    }
  }
}

Writer::Task Writer::begin(const Place& place, bool write, bool fragile) {
  Task task;
  task.place = place;
  task.write = write;
  task.epoch = epoch(place);
  if (write) {
    peek(place, "before the next WRITE");
    task.sequence = model(place).begin_write(fragile);
    task.use = local_.take_for_write(place.length(), place.id(), task.sequence, fragile);
  } else {
    task.use = local_.take_for_read(place.length(), fragile);
  }
  return task;
}

bool Writer::run(const PlannedBatch& batch, uint64_t number) {
  if (shared_.segments[batch.target] < 0) return false;
  std::vector<Task> tasks;
  bool fragile = true;  // the writer has one such slot
  for (const PlannedRequest& request : batch.requests) {
    tasks.push_back(begin(place(batch.target, request.buffer, request.slot), request.write,
                          request.fragile_source && fragile));
    fragile = fragile && !request.fragile_source;
  }
  std::string error;
  const std::string note = fmt::format("{}-{}-{}", ::getpid(), writer_, number);
  const std::vector<TaskState> states = execute(tasks, batch, note, &error);
  bool all = !states.empty();
  for (size_t i = 0; i < tasks.size(); ++i) {
    const TaskState state = states.empty() ? TaskState::kInvalid : states[i];
    end(tasks[i], state);
    all = all && state == TaskState::kCompleted;
  }
  // What fails at once would fail thousands of times a second.
  if (!all) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return true;
}

std::vector<TaskState> Writer::execute(std::vector<Task>& tasks, const PlannedBatch& batch,
                                       const std::string& note, std::string* error) {
  Engine& engine = *shared_.engine;
  const auto id = engine.allocate_batch(tasks.size());
  if (!id.ok()) {
    report_violation("refused", "allocate_batch: " + id.status().to_string());
    return {};
  }
  std::vector<TransferRequest> requests;
  for (const Task& task : tasks) {
    const uint64_t base = shared_.world.target(task.place.target).addresses[task.place.buffer];
    requests.push_back({task.write ? Opcode::kWrite : Opcode::kRead, task.use.address,
                        shared_.segments[task.place.target], base + task.place.offset(),
                        task.use.length});
  }
  SubmitOptions options;
  options.timeout = std::chrono::milliseconds(batch.timeout_ms);
  if (batch.notify) options.notification = Notification{"soak", note};
  Times times;
  times.submitted_ns = monotonic_ns();
  const Status submitted = engine.submit(*id, requests, options);
  const int64_t returned = monotonic_ns();
  if (returned - times.submitted_ns > shared_.settings.late_ms * kMs) {
    shared_.heartbeat.catch_up();
    const int64_t took =
        returned - times.submitted_ns - shared_.stalls.within(times.submitted_ns, returned);
    if (took > shared_.settings.late_ms * kMs) {
      report_violation("blocked", fmt::format("writer {}: submit to target {} took {} ms", writer_,
                                              batch.target, took / kMs));
    }
  }
  std::vector<TaskState> states;
  if (submitted.ok()) {
    if (batch.cancel_after_us >= 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(batch.cancel_after_us));
      times.cancelled_ns = monotonic_ns();
      const Status cancelled = engine.cancel(*id);
      if (!cancelled.ok()) report_violation("refused", "cancel: " + cancelled.to_string());
    }
    wait(*id, batch.wait, times.submitted_ns + batch.timeout_ms * kMs);
    times.end_ns = monotonic_ns();
    TaskState worst = TaskState::kCompleted;
    for (size_t i = 0; i < tasks.size(); ++i) {
      const auto status = engine.status(*id, i);
      states.push_back(status.ok() ? status->state : TaskState::kInvalid);
      if (states.back() == TaskState::kCompleted) continue;
      const auto reason = engine.task_error(*id, i);
      const std::string text = (reason.ok() ? reason->status : reason.status()).to_string();
      if (error->empty()) *error = text;
      worst = states.back();
      if (local_.whole(tasks[i].use)) tell_unmet(batch, times, states.back(), text);
    }
    check_times(batch, times, worst, *error);
  } else {
    ++shared_.counts.refused;
    *error = "submit: " + submitted.to_string();
    times.end_ns = returned;
    tell_unmet(batch, times, TaskState::kInvalid, *error);
  }
  const Status freed = engine.free_batch(*id);
  if (!freed.ok()) report_violation("refused", "free_batch: " + freed.to_string());
  return states;
}

void Writer::wait(BatchId id, WaitStyle style, int64_t deadline_ns) {
  Engine& engine = *shared_.engine;
  const auto over = [&] {
    const auto status = engine.batch_status(id);
    return !status.ok() || is_terminal(status->state);
  };
  const int64_t hang_ns = deadline_ns + kHangNs;
  while (!over()) {
    if (monotonic_ns() > hang_ns) {
      report_violation(
          "hang",
          fmt::format("writer {}: a task is not terminal 30 s after its deadline", writer_));
      // The driver ends this process.
      for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
    }
    if (style == WaitStyle::kWait) {
      const int64_t limit_ms = (hang_ns - monotonic_ns()) / kMs + 1;
      (void)engine.wait(id, std::chrono::milliseconds(limit_ms));
    } else if (style == WaitStyle::kWaitBriefly) {
      (void)engine.wait(id, std::chrono::milliseconds(2));
    } else if (style == WaitStyle::kPollStatus) {
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    } else {
      const auto fd = engine.event_fd(id);
      if (!fd.ok()) {
        report_violation("refused", "event_fd: " + fd.status().to_string());
        style = WaitStyle::kWait;
        continue;
      }
      pollfd waited = {*fd, POLLIN, 0};
      ::poll(&waited, 1, 1'000);
    }
  }
}

void Writer::check_times(const PlannedBatch& batch, const Times& times, TaskState state,
                         const std::string& error) {
  const Settings& settings = shared_.settings;
  const int64_t deadline_ns = times.submitted_ns + batch.timeout_ms * kMs;
  int64_t end_ns = times.end_ns;
  if (settings.plant == "late" && state == TaskState::kTimeout)
    end_ns += 2 * settings.late_ms * kMs;
  int64_t late_ns = end_ns - deadline_ns;
  if (late_ns > settings.late_ms * kMs) shared_.heartbeat.catch_up();
  late_ns = lateness_ns(shared_.stalls, deadline_ns, end_ns);
  int64_t latest = shared_.counts.latest_ns;
  while (late_ns > latest && !shared_.counts.latest_ns.compare_exchange_weak(latest, late_ns)) {
  }
  if (late_ns > settings.late_ms * kMs) {
    report_violation(
        "late",
        fmt::format("writer {}: {} of target {} with a timeout of {} ms ended {} ms after its "
                    "deadline, {}: {}",
                    writer_, batch.requests.size() == 1 ? "a task" : "tasks", batch.target,
                    batch.timeout_ms, late_ns / kMs, name_of(state), error),
        {{"target", batch.target}, {"late_ms", late_ns / kMs}});
  }
  if (times.cancelled_ns == 0) return;
  const int64_t took = end_ns - times.cancelled_ns;
  if (took <= settings.cancel_ms * kMs) return;
  shared_.heartbeat.catch_up();
  const int64_t own = took - shared_.stalls.within(times.cancelled_ns, end_ns);
  if (own <= settings.cancel_ms * kMs) return;
  report_violation(
      "cancel", fmt::format("writer {}: tasks of target {} ended {} ms after cancel, {}", writer_,
                            batch.target, own / kMs, name_of(state)));
}

void Writer::tell_unmet(const PlannedBatch& batch, const Times& times, TaskState state,
                        const std::string& error) {
  if (batch.timeout_ms < kToldTimeoutMs || times.cancelled_ns != 0) return;
  report("unmet", {{"target", batch.target},
                   {"begin", static_cast<double>(times.submitted_ns) / 1e9},
                   {"end", static_cast<double>(times.end_ns) / 1e9},
                   {"timeout_ms", batch.timeout_ms},
                   {"state", name_of(state)},
                   {"error", error}});
}

void Writer::end(const Task& task, TaskState state) {
  Counts& counts = shared_.counts;
  if (state == TaskState::kCompleted) {
    counts.bytes += task.use.length;
    ++(task.write ? counts.writes : counts.reads);
  } else if (state == TaskState::kTimeout) {
    ++counts.timeouts;
  } else if (state == TaskState::kCancelled) {
    ++counts.cancelled;
  } else {
    ++counts.failed;
  }
  if (task.write) {
    const uint64_t zeros_possible = 1;
    model(task.place)
        .end_write(task.sequence, state == TaskState::kCompleted,
                   local_.whole(task.use) ? task.epoch : zeros_possible);
  }
  if (state == TaskState::kCompleted) check_task(task);
  local_.give_back(task.use);
  if (!shared_.settings.plant.empty()) plant(task, state);
}

void Writer::check_task(const Task& task) {
  if (task.write) {
    peek(task.place, "right after the WRITE completed");
    return;
  }
  scratch_.resize(task.use.length);
  if (!local_.fetch(task.use, scratch_)) return;
  // While content may have been lost, zeros may have been read.
  const uint64_t now = epoch(task.place);
  const Breach breach =
      model(task.place).check(scratch_.data(), scratch_.size(), now == task.epoch ? now : 1);
  if (!breach.ok()) tell(task.place, breach, "what a READ brought");
}

void Writer::peek(const Place& place, const char* when) {
  scratch_.resize(place.length());
  uint64_t now = 0;
  if (!shared_.world.peek(place, scratch_, &now)) return;
  ++shared_.counts.peeks;
  const Breach breach = model(place).check(scratch_.data(), scratch_.size(), now);
  if (!breach.ok()) tell(place, breach, when);
}

void Writer::tell(const Place& place, const Breach& breach, const std::string& when) {
  report_violation(
      breach.kind,
      fmt::format("target {}, buffer {}, writer {}, slot {} ({} bytes), {}: {}", place.target,
                  place.buffer, place.writer, place.slot, place.length(), when, breach.text));
  model(place).forget();
}

bool Writer::write_once(size_t target, int64_t timeout_ms, std::string* error) {
  PlannedBatch batch;
  batch.target = target;
  batch.timeout_ms = timeout_ms;
  batch.cancel_after_us = -1;
  std::vector<Task> tasks;
  for (size_t buffer = 0; buffer < kBuffers; ++buffer) {
    tasks.push_back(begin(place(target, buffer, kSlots - 2), true, false));
  }
  error->clear();
  // Failures are what it waits out: not told.
  const std::vector<TaskState> states = execute(tasks, batch, "", error);
  bool all = !states.empty();
  for (size_t i = 0; i < tasks.size(); ++i) {
    const TaskState state = states.empty() ? TaskState::kInvalid : states[i];
    all = all && state == TaskState::kCompleted;
    end(tasks[i], state);
  }
  return all;
}

void Writer::sweep() {
  for (size_t target = 0; target < shared_.settings.shape.targets; ++target) {
    if (shared_.segments[target] < 0) continue;
    for (size_t i = 0; i < kBuffers * kSlots; ++i) {
      const Place at = place(target, i / kSlots, i % kSlots);
      peek(at, "in a quiet phase");
      PlannedBatch batch;
      batch.target = target;
      batch.timeout_ms = kSweepTimeoutMs;
      std::vector<Task> tasks = {begin(at, false, false)};
      std::string error;
      const std::vector<TaskState> states = execute(tasks, batch, "", &error);
      const TaskState state = states.empty() ? TaskState::kInvalid : states[0];
      end(tasks[0], state);
      if (state == TaskState::kCompleted) continue;
      report_violation("unmet",
                       fmt::format("writer {}: a READ of target {} in a quiet phase ended in "
                                   "{}: {}",
                                   writer_, target, name_of(state), error));
      break;
    }
  }
}

void Writer::peek_at_random(uint64_t number) {
  const uint64_t which = number * 0x9e3779b97f4a7c15 >> 20;
  const size_t targets = shared_.settings.shape.targets;
  peek(place(which % targets, which / targets % kBuffers, which / targets / kBuffers % kSlots),
       "while nothing was under way to it");
}

// Faults made on purpose, to show that the checks find them.
void Writer::plant(const Task& task, TaskState state) {
  const std::string& wanted = shared_.settings.plant;
  if (!task.write || task.place.buffer == kAllocated || planted_ > 3) return;
  std::vector<std::byte> content(task.place.length());
  const RangeState& range = shared_.ledger[ledger_index(task.place, shared_.settings.shape)];
  if (wanted == "corrupt" && state == TaskState::kCompleted && task.sequence > 1) {
    stamp(content.data(), content.size(), task.place.id(), task.sequence);
    content[content.size() / 2] ^= std::byte{4};
  } else if (wanted == "ghost" && state == TaskState::kCompleted && (range.abandoned & 2) != 0) {
    stamp(content.data(), content.size(), task.place.id(), task.sequence - 1);
  } else {
    return;
  }
  if (shared_.world.poke(task.place, content)) ++planted_;
}

}  // namespace te::soak
