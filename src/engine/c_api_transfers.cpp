// The C API: batches and notifications.
#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <new>
#include <span>
#include <string>

#include "engine/c_arguments.h"
#include "engine/c_calls.h"
#include "transfer_engine/engine.h"
#include "transfer_engine_c.h"

namespace {

using te::Code;
using te::Status;
using te::c_api::fill_text;
using te::c_api::guarded;
using te::c_api::milliseconds;
using te::c_api::null_argument;
using te::c_api::number_or_code;
using te::c_api::report;
using te::c_api::to_notification;
using te::c_api::to_submit_options;
using te::c_api::with_engine;

static_assert(sizeof(transfer_request_t) == sizeof(te::TransferRequest));
static_assert(offsetof(transfer_request_t, opcode) == offsetof(te::TransferRequest, opcode));
static_assert(offsetof(transfer_request_t, source) == offsetof(te::TransferRequest, source));
static_assert(offsetof(transfer_request_t, target_id) == offsetof(te::TransferRequest, target_id));
static_assert(offsetof(transfer_request_t, target_offset) ==
              offsetof(te::TransferRequest, target_offset));
static_assert(offsetof(transfer_request_t, length) == offsetof(te::TransferRequest, length));

std::span<const te::TransferRequest> as_requests(const struct transfer_request* entries,
                                                 size_t count) {
  return {reinterpret_cast<const te::TransferRequest*>(entries), count};
}

int submit(transfer_engine_t engine, batch_id_t batch_id, struct transfer_request* entries,
           size_t count, const te::SubmitOptions& options) {
  return with_engine(engine, [&](te::Engine& e) {
    if (entries == nullptr && count > 0) return null_argument("entries");
    return e.submit(batch_id, as_requests(entries, count), options);
  });
}

char* duplicate(const std::string& text) {
  auto* copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy != nullptr) std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

// The entries, and behind them what they point to; null: no memory.
notification_t* as_one_block(const std::vector<te::Notification>& from) {
  size_t size = from.size() * sizeof(notification_t);
  for (const te::Notification& each : from) size += each.name.size() + 1 + each.message.size();
  auto* list = static_cast<notification_t*>(std::malloc(size));
  if (list == nullptr) return nullptr;
  char* at = reinterpret_cast<char*>(list + from.size());
  for (size_t i = 0; i < from.size(); ++i) {
    const auto& [name, message] = from[i];
    list[i] = {at, at + name.size() + 1, message.size()};
    std::memcpy(at, name.c_str(), name.size() + 1);
    at += name.size() + 1;
    std::memcpy(at, message.data(), message.size());
    at += message.size();
  }
  return list;
}

}  // namespace

extern "C" {

batch_id_t allocateBatchID(transfer_engine_t engine, size_t batch_size) {
  return allocateBatchIDWithOptions(engine, batch_size, nullptr);
}

batch_id_t allocateBatchIDWithOptions(transfer_engine_t engine, size_t batch_size,
                                      const batch_options_t* options) {
  batch_id_t id = INVALID_BATCH;
  with_engine(engine, [&](te::Engine& e) -> Status {
    batch_options_t known{};
    if (options != nullptr) TE_RETURN_IF_ERROR(te::copy_options(*options, &known));
    te::Result<te::BatchId> batch =
        e.allocate_batch(batch_size, {.completion_queue = known.completion_queue != 0});
    if (batch.ok()) id = *batch;
    return batch.status();
  });
  return id;
}

int submitTransfer(transfer_engine_t engine, batch_id_t batch_id, struct transfer_request* entries,
                   size_t count) {
  return submit(engine, batch_id, entries, count, {});
}

int submitTransferWithNotify(transfer_engine_t engine, batch_id_t batch_id,
                             struct transfer_request* entries, size_t count,
                             notify_msg_t notify_msg) {
  te::SubmitOptions options;
  const int code = guarded([&] {
    te::Notification notification;
    Status status = to_notification(notify_msg, &notification);
    options.notification = std::move(notification);
    return status;
  });
  if (code != 0) return code;
  return submit(engine, batch_id, entries, count, options);
}

int submitTransferWithTimeout(transfer_engine_t engine, batch_id_t batch_id,
                              struct transfer_request* entries, size_t count, uint64_t timeout_ms) {
  te::SubmitOptions options;
  options.timeout = milliseconds(timeout_ms);
  return submit(engine, batch_id, entries, count, options);
}

int submitTransferWithOptions(transfer_engine_t engine, batch_id_t batch_id,
                              struct transfer_request* entries, size_t count,
                              const submit_options_t* options) {
  te::SubmitOptions to;
  const int code = guarded([&]() -> Status {
    if (options == nullptr) return null_argument("options");
    return to_submit_options(*options, &to);
  });
  if (code != 0) return code;
  return submit(engine, batch_id, entries, count, to);
}

int setAddressing(transfer_engine_t engine, int addressing) {
  return with_engine(engine, [&](te::Engine& e) {
    return e.set_addressing(static_cast<te::Addressing>(addressing));
  });
}

int getTransferStatus(transfer_engine_t engine, batch_id_t batch_id, size_t task_id,
                      struct transfer_status* status) {
  return with_engine(engine, [&](te::Engine& e) {
    if (status == nullptr) return null_argument("status");
    te::Result<te::TransferStatus> found = e.status(batch_id, task_id);
    if (found.ok()) *status = {static_cast<int>(found->state), found->transferred_bytes};
    return found.status();
  });
}

int getBatchStatus(transfer_engine_t engine, batch_id_t batch_id, struct transfer_status* status) {
  return with_engine(engine, [&](te::Engine& e) {
    if (status == nullptr) return null_argument("status");
    te::Result<te::TransferStatus> found = e.batch_status(batch_id);
    if (found.ok()) *status = {static_cast<int>(found->state), found->transferred_bytes};
    return found.status();
  });
}

int getTransferError(transfer_engine_t engine, batch_id_t batch_id, size_t task_id, char* buf_out,
                     size_t buf_len) {
  return fill_text(engine, buf_out, buf_len, [&](te::Engine& e) -> te::Result<std::string> {
    te::Result<te::TaskError> found = e.task_error(batch_id, task_id);
    if (!found.ok()) return found.status();
    return found->status.ok() ? std::string() : found->status.to_string();
  });
}

int waitBatch(transfer_engine_t engine, batch_id_t batch_id, int64_t timeout_ms) {
  return with_engine(engine, [&](te::Engine& e) {
    if (timeout_ms < 0) return e.wait(batch_id);
    return e.wait(batch_id, std::chrono::milliseconds(timeout_ms));
  });
}

int cancelBatch(transfer_engine_t engine, batch_id_t batch_id) {
  return with_engine(engine, [&](te::Engine& e) { return e.cancel(batch_id); });
}

int getBatchEventFd(transfer_engine_t engine, batch_id_t batch_id) {
  return number_or_code(engine, [&](te::Engine& e) { return e.event_fd(batch_id); });
}

int takeCompletions(transfer_engine_t engine, completion_t* completions, size_t* count) {
  return with_engine(engine, [&](te::Engine& e) -> Status {
    if (count == nullptr) return null_argument("count");
    if (completions == nullptr && *count > 0) return null_argument("completions");
    size_t filled = 0;
    te::Completion taken[64];
    while (filled < *count) {
      const size_t most = std::min(std::size(taken), *count - filled);
      const size_t got = e.take_completions({taken, most});
      if (got == 0) break;
      for (const te::Completion& each : std::span(taken, got)) {
        completions[filled++] = {
            each.batch, {static_cast<int>(each.status.state), each.status.transferred_bytes}};
      }
    }
    *count = filled;
    return {};
  });
}

int getCompletionFd(transfer_engine_t engine) {
  return number_or_code(engine, [](te::Engine& e) { return e.completion_fd(); });
}

int freeBatchID(transfer_engine_t engine, batch_id_t batch_id) {
  return with_engine(engine, [&](te::Engine& e) { return e.free_batch(batch_id); });
}

int sendNotification(transfer_engine_t engine, segment_id_t target_id,
                     const notification_t* notification) {
  return with_engine(engine, [&](te::Engine& e) -> Status {
    if (notification == nullptr) return null_argument("notification");
    te::Notification to;
    TE_RETURN_IF_ERROR(to_notification(*notification, &to));
    return e.notify(target_id, to);
  });
}

int takeNotifications(transfer_engine_t engine, notification_t** list, size_t* count) {
  return with_engine(engine, [&](te::Engine& e) -> Status {
    if (list == nullptr) return null_argument("list");
    if (count == nullptr) return null_argument("count");
    *list = nullptr;
    *count = 0;
    const std::vector<te::Notification> taken = e.take_notifications();
    if (taken.empty()) return {};
    *list = as_one_block(taken);
    if (*list == nullptr) {
      return te::error(Code::kResource, "out of memory: {} notifications are lost", taken.size());
    }
    *count = taken.size();
    return {};
  });
}

void freeNotifications(notification_t* list) { std::free(list); }

int genNotifyInEngine(transfer_engine_t engine, uint64_t target_id, notify_msg_t notify_msg) {
  return with_engine(engine, [&](te::Engine& e) -> Status {
    te::Notification notification;
    TE_RETURN_IF_ERROR(to_notification(notify_msg, &notification));
    if (target_id > INT32_MAX) {
      return te::error(Code::kNotFound, "there is no open segment with id {}", target_id);
    }
    return e.notify(static_cast<te::SegmentId>(target_id), notification);
  });
}

notify_msg_t* getNotifsFromEngine(transfer_engine_t engine, int* size) {
  if (size == nullptr) {
    report(null_argument("size"));
    return nullptr;
  }
  notify_msg_t* messages = nullptr;
  const int code = with_engine(engine, [&](te::Engine& e) -> Status {
    const std::vector<te::Notification> taken = e.take_notifications();
    *size = 0;
    if (taken.empty()) return {};
    messages = static_cast<notify_msg_t*>(std::calloc(taken.size(), sizeof(notify_msg_t)));
    if (messages == nullptr) return Status(Code::kResource, "out of memory");
    for (const te::Notification& from : taken) {
      messages[*size] = {duplicate(from.name), duplicate(from.message)};
      ++*size;
    }
    return {};
  });
  if (code != 0) *size = code;
  return messages;
}

int freeNotifsMsgBuf(notify_msg_t* msg, int size) {
  if (size < 0 || (msg == nullptr && size > 0)) {
    return report(Status(Code::kInvalidArgument, "the messages to free are not what was returned"));
  }
  for (int i = 0; i < size; ++i) {
    std::free(msg[i].name);
    std::free(msg[i].msg);
  }
  std::free(msg);
  return 0;
}

}  // extern "C"
