#include "transfer_engine/status.h"

namespace te {

std::string_view code_name(Code code) {
  switch (code) {
    case Code::kOk:
      return "ok";
    case Code::kInvalidArgument:
      return "invalid_argument";
    case Code::kNotFound:
      return "not_found";
    case Code::kAlreadyExists:
      return "already_exists";
    case Code::kOutOfRange:
      return "out_of_range";
    case Code::kPermission:
      return "permission";
    case Code::kUnavailable:
      return "unavailable";
    case Code::kTimeout:
      return "timeout";
    case Code::kCancelled:
      return "cancelled";
    case Code::kStale:
      return "stale";
    case Code::kBusy:
      return "busy";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kProtocol:
      return "protocol";
    case Code::kNoSpace:
      return "no_space";
    case Code::kResource:
      return "resource";
    case Code::kInternal:
      return "internal";
  }
  return "unknown";
}

Status::Status(Code code, std::string message) : error_(new Error{code, std::move(message)}) {
  assert(code != Code::kOk);
}

void Status::share() const { error_->users.fetch_add(1, std::memory_order_relaxed); }

void Status::release() {
  if (error_->users.fetch_sub(1, std::memory_order_acq_rel) == 1) delete error_;
}

const std::string& Status::empty() {
  static const std::string& text = *new std::string;  // never destroyed
  return text;
}

std::string Status::to_string() const {
  if (ok()) return "ok";
  return std::string(code_name(code())) + ": " + message();
}

Status Status::with_context(std::string_view context) const {
  if (ok()) return *this;
  return Status(code(), std::string(context) + ": " + message());
}

}  // namespace te
