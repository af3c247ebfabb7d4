// Status and Result: how every fallible call of the library reports.
//
// A Status is a null pointer when ok, so success costs nothing. Copies share the text.
// Threads: values; distinct objects may be used from any thread.
#pragma once

#include <atomic>
#include <cassert>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#if defined(TE_BUILDING_LIBRARY)
#define TE_EXPORT __attribute__((visibility("default")))
#else
#define TE_EXPORT
#endif
// Code that only errors need.
#define TE_COLD __attribute__((cold))

namespace te {

// Why a call or a transfer failed. The numbers are those of the C API (TE_ERR_*) and never change.
enum class Code : int32_t {
  kOk = 0,
  kInvalidArgument = -1,  // a wrong parameter; nothing was started
  kNotFound = -2,         // no such segment, batch, buffer, task or transport
  kAlreadyExists = -3,    // a name or a range is taken
  kOutOfRange = -4,       // a range leaves its buffer, a task id leaves its batch
  kPermission = -5,   // the target does not allow it (not remote accessible, wrong key or password)
  kUnavailable = -6,  // a peer or server cannot be reached, or was lost
  kTimeout = -7,      // the deadline passed first
  kCancelled = -8,    // cancelled by the caller, or because the engine ends
  kStale = -9,        // the peer restarted, or its buffer is gone: its descriptor is outdated
  kBusy = -10,        // in use, or a limit is reached; try again later
  kUnsupported = -11,  // not on this machine or not in this build
  kProtocol = -12,     // a peer or server broke its protocol
  kNoSpace = -13,      // a caller's buffer is too small
  kResource = -14,     // the operating system refused memory, descriptors or a port
  kInternal = -15,     // a defect of the library
};

// The constant's name in lower case with underscores, such as "invalid_argument".
TE_EXPORT std::string_view code_name(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  // `code` must not be kOk. `message` says what, where and what to do.
  TE_COLD TE_EXPORT Status(Code code, std::string message);
  Status(const Status& other) : error_(other.error_) {
    if (error_ != nullptr) share();
  }
  Status(Status&& other) noexcept : error_(std::exchange(other.error_, nullptr)) {}
  Status& operator=(Status other) noexcept {
    std::swap(error_, other.error_);
    return *this;
  }
  ~Status() {
    if (error_ != nullptr) release();
  }

  bool ok() const { return error_ == nullptr; }
  Code code() const { return error_ ? error_->code : Code::kOk; }
  const std::string& message() const { return error_ ? error_->message : empty(); }
  // "code_name: message", or "ok".
  TE_EXPORT std::string to_string() const;
  // The same error with `context` and ": " before its message; ok stays ok.
  TE_EXPORT Status with_context(std::string_view context) const;

 private:
  struct Error {
    Code code;
    std::string message;
    std::atomic<uint32_t> users{1};
  };
  TE_COLD TE_EXPORT void share() const;
  TE_COLD TE_EXPORT void release();
  TE_EXPORT static const std::string& empty();
  Error* error_ = nullptr;
};

// Either a T or an error Status.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}                                  // NOLINT: implicit
  Result(Status status) : status_(std::move(status)) { assert(!status_.ok()); }  // NOLINT: implicit

  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }
  Code code() const { return status_.code(); }
  // Only when ok().
  T& value() {
    assert(ok());
    return *value_;
  }
  const T& value() const {
    assert(ok());
    return *value_;
  }
  T& operator*() { return value(); }
  const T& operator*() const { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T take() {
    assert(ok());
    return std::move(*value_);
  }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace te

// Returns from the enclosing function when `expression` is an error Status.
#define TE_RETURN_IF_ERROR(expression)                                               \
  do {                                                                               \
    if (::te::Status te_status_ = (expression); !te_status_.ok()) return te_status_; \
  } while (false)
