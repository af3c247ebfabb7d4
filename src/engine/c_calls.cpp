#include "engine/c_calls.h"

#include <new>
#include <stdexcept>

#include "base/per_thread.h"
#include "engine/c_arguments.h"

namespace te::c_api {
namespace {

thread_local const char* last_error_text = "";

struct LastError {
  ~LastError() { last_error_text = ""; }
  std::string text;
};

// Takes no memory.
int report_no_memory() noexcept {
  last_error_text = "resource: out of memory; free some, then try again";
  return static_cast<int>(Code::kResource);
}

}  // namespace

int report(const Status& status) noexcept {
  if (status.ok()) return 0;
  try {
    std::string& text = per_thread<LastError>().text;
    text = status.to_string();
    last_error_text = text.c_str();
  } catch (...) {
    report_no_memory();
  }
  return static_cast<int>(status.code());
}

// What an exception means; nothing but memory shortage should throw.
int report_exception() noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return report_no_memory();
  } catch (const std::length_error&) {  // a count that no memory holds
    return report_no_memory();
  } catch (const std::exception& failure) {
    try {
      return report(Status(Code::kInternal, failure.what()));
    } catch (...) {
      return report_no_memory();
    }
  } catch (...) {
    return report_no_memory();
  }
}

Status null_argument(const char* name) {
  return Status(Code::kInvalidArgument, std::string("the argument ") + name + " is null");
}

std::chrono::milliseconds milliseconds(uint64_t count) {
  return std::chrono::milliseconds(static_cast<int64_t>(std::min<uint64_t>(count, INT64_MAX)));
}

Status to_notification(const notification_t& from, Notification* out) {
  if (from.name == nullptr) return null_argument("notification.name");
  if (from.data == nullptr && from.length > 0) return null_argument("notification.data");
  *out = {from.name, std::string(static_cast<const char*>(from.data), from.length)};
  return {};
}

Status to_notification(const notify_msg_t& from, Notification* out) {
  if (from.name == nullptr) return null_argument("notify_msg.name");
  if (from.msg == nullptr) return null_argument("notify_msg.msg");
  *out = {from.name, from.msg};
  return {};
}

Status to_submit_options(const submit_options_t& from, SubmitOptions* out) {
  submit_options_t known{};
  TE_RETURN_IF_ERROR(copy_options(from, &known));
  out->addressing = static_cast<Addressing>(known.addressing);
  if (known.timeout_ms > 0) out->timeout = milliseconds(known.timeout_ms);
  out->after_event = known.after_event;
  out->after_stream = known.after_stream;
  if (known.notify_msg == nullptr && known.notification == nullptr) return {};
  if (known.notify_msg != nullptr && known.notification != nullptr) {
    return Status(Code::kInvalidArgument,
                  "options.notify_msg and options.notification are both set: a submission has one "
                  "notification");
  }
  Notification notification;
  Status status = known.notification != nullptr
                      ? to_notification(*known.notification, &notification)
                      : to_notification(*known.notify_msg, &notification);
  out->notification = std::move(notification);
  return status;
}

}  // namespace te::c_api

extern "C" const char* transferEngineLastError(void) { return te::c_api::last_error_text; }
