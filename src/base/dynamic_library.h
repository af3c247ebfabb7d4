// A shared library that is opened at run time, since the machine may not have it.
//
// Threads: any.
#pragma once

#include <memory>
#include <string>

#include "transfer_engine/status.h"

namespace te {

class DynamicLibrary {
 public:
  // By its path, or by a name that the system's loader knows. kUnsupported, with the loader's
  // reason.
  static Result<DynamicLibrary> open(const std::string& path);

  // False, and null, where there is no such symbol. `version`: the symbol's; null: whatever the
  // library has as its newest.
  template <typename Function>
  bool look_up(const char* name, const char* version, Function* function) const {
    *function = reinterpret_cast<Function>(find(name, version));
    return *function != nullptr;
  }
  // Where it lies.
  std::string path() const;
  // It stays open until the process ends; else it closes with this.
  void keep() { (void)handle_.release(); }

  // What the loader said last in this thread, or `otherwise` when it said nothing.
  static std::string last_error(const std::string& otherwise);

 private:
  struct Closer {
    void operator()(void* handle) const;
  };

  DynamicLibrary(void* handle, std::string name) : handle_(handle), name_(std::move(name)) {}
  void* find(const char* name, const char* version) const;

  std::unique_ptr<void, Closer> handle_;
  std::string name_;  // as asked for
};

}  // namespace te
