#include "engine/c_calls.h"

#include <new>
#include <stdexcept>

#include "base/per_thread.h"

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

}  // namespace te::c_api

extern "C" const char* transferEngineLastError(void) { return te::c_api::last_error_text; }
