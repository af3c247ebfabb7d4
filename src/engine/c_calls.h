// How each call of the C API runs: nothing is thrown across it, memory shortage included, and what
// went wrong is kept for transferEngineLastError().
//
// Threads: any; the text is the calling thread's.
#pragma once

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstring>
#include <string>
#include <utility>

#include "base/log.h"
#include "transfer_engine/engine.h"
#include "transfer_engine_c.h"

namespace te::c_api {

// Keeps the text; the code.
int report(const Status& status) noexcept;
// The same for the exception being handled.
int report_exception() noexcept;
Status null_argument(const char* name);

std::chrono::milliseconds milliseconds(uint64_t count);
Status to_notification(const notification_t& from, Notification* out);
Status to_notification(const notify_msg_t& from, Notification* out);
Status to_submit_options(const submit_options_t& from, SubmitOptions* out);

// Runs `body`, which returns a Status.
template <typename Body>
int guarded(Body&& body) noexcept {
  try {
    return report(body());
  } catch (...) {
    return report_exception();
  }
}

// The same for an engine that must not be null.
template <typename Body>
int with_engine(transfer_engine_t engine, Body&& body) noexcept {
  return guarded([&]() -> Status {
    if (engine == nullptr) {
      return Status(Code::kInvalidArgument, "the engine is null: was it created?");
    }
    auto& known = *static_cast<Engine*>(engine);
    TE_RETURN_IF_ERROR(known.check_process());
    return body(known);
  });
}

// The number, such as an id or a descriptor, that `make(engine)` returns, or its error code.
template <typename Make>
int number_or_code(transfer_engine_t engine, Make&& make) noexcept {
  int number = 0;
  const int code = with_engine(engine, [&](Engine& e) -> Status {
    const Result<int> made = make(e);
    if (made.ok()) number = *made;
    return made.status();
  });
  return code == 0 ? number : code;
}

// Fills a buffer with the text that `make(engine)` returns, or tells what it needs.
template <typename Make>
int fill_text(transfer_engine_t engine, char* buf_out, size_t buf_len, Make&& make) noexcept {
  return number_or_code(engine, [&](Engine& e) -> Result<int> {
    if (buf_out == nullptr && buf_len > 0) return null_argument("buf_out");
    const Result<std::string> text = make(e);
    if (!text.ok()) return text.status();
    const size_t size = text->size() + 1;
    if (buf_len == 0 && buf_out == nullptr) {
      return static_cast<int>(std::min<size_t>(size, INT_MAX));
    }
    if (buf_len < size) {
      return error(Code::kNoSpace, "the buffer has {} bytes: {} are needed", buf_len, size);
    }
    std::memcpy(buf_out, text->c_str(), size);
    return 0;
  });
}

}  // namespace te::c_api
