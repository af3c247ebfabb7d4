// Shared libraries that are opened at run time, since the machine may not have them.
//
// Threads: any.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/fork.h"
#include "base/mutex.h"
#include "transfer_engine/status.h"

namespace te {

// One of them. It closes with this, unless keep() was called.
class DynamicLibrary {
 public:
  // By its path, or by a name that the system's loader knows. kUnsupported, with the loader's
  // reason.
  static Result<DynamicLibrary> open(const std::string& path);
  // Only if the process has it already; kNotFound: it does not.
  static Result<DynamicLibrary> open_if_loaded(const std::string& path);

  // Null where there is no such symbol, which keep() reports. `version`: the symbol's; null:
  // whatever the library has as its newest.
  template <typename Function>
  void look_up(const char* name, Function* function, const char* version = nullptr) {
    *function = reinterpret_cast<Function>(find(name, version));
  }
  // Null where there is no such symbol, which keep() does not report.
  template <typename Function>
  void look_up_optional(const char* name, Function* function) {
    *function = reinterpret_cast<Function>(find_optional(name));
  }
  // After the last look_up(): it stays open until the process ends. kUnsupported where a function
  // is missing, which is named; `expected` says what the library should be ("libcurl 7").
  Status keep(std::string_view expected);

  // Where it lies.
  std::string path() const;

 private:
  struct Closer {
    void operator()(void* handle) const;
  };

  DynamicLibrary(void* handle, std::string name) : handle_(handle), name_(std::move(name)) {}
  void* find(const char* name, const char* version);
  void* find_optional(const char* name);

  std::unique_ptr<void, Closer> handle_;
  std::string name_;     // as asked for
  std::string missing_;  // the first symbol that was not found
};

// The libraries of one kind that were opened, each once. To be made while this library is loaded,
// and never destroyed: threads use them until the process ends, and forks look at the lock.
template <typename Library>
class OpenLibraries {
 public:
  OpenLibraries() { hold_during_forks(mutex_); }

  // The one at `path`, which `load(path)` opens the first time; it returns a
  // Result<std::unique_ptr<Library>>. A failure is not remembered.
  template <typename Load>
  Result<const Library*> get(const std::string& path, Load&& load) {
    MutexLock lock(mutex_);
    const auto found = opened_.find(path);
    if (found != opened_.end()) return found->second.get();
    Result<std::unique_ptr<Library>> loaded = load(path);
    if (!loaded.ok()) return loaded.status();
    return (opened_[path] = loaded.take()).get();
  }

  // What cannot bear that a library is opened meanwhile, or another `work` done.
  template <typename Work>
  void alone(Work&& work) {
    MutexLock lock(mutex_);
    work();
  }

 private:
  Mutex mutex_{LockRank::kLibrary};
  std::map<std::string, std::unique_ptr<const Library>> opened_ TE_GUARDED_BY(mutex_);
};

}  // namespace te
