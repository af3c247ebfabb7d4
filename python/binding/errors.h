// Errors of the library as Python exceptions (transfer_engine/_errors.py).
//
// Threads: with the GIL.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>  // everywhere, or casts of strings differ between files

#include <cstdint>
#include <optional>
#include <string>

#include "transfer_engine/status.h"

namespace te::py {

namespace nb = nanobind;

// What an error is about, as far as the call knows.
struct ErrorContext {
  std::string peer = {};                           // the name of the segment; empty: none
  std::optional<uint64_t> address = std::nullopt;  // of the local memory
};

// The exception of the code, for which `status` must not be ok.
nb::object to_exception(const Status& status, const ErrorContext& context = {});
[[noreturn]] void raise(const Status& status, const ErrorContext& context = {});
[[noreturn]] void raise_invalid(const std::string& message, const ErrorContext& context = {});
// The Python exception that is set now becomes an InvalidArgumentError, with its text after ours.
// Those that are no errors of an argument (KeyboardInterrupt, MemoryError) stay what they are.
[[noreturn]] void raise_invalid_from_python(const std::string& message);

inline void check(const Status& status, const ErrorContext& context = {}) {
  if (!status.ok()) raise(status, context);
}
template <typename T>
T check(Result<T> result, const ErrorContext& context = {}) {
  if (!result.ok()) raise(result.status(), context);
  return result.take();
}

}  // namespace te::py
