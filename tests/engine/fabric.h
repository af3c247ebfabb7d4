// Two engines over libfabric, with one NIC or two each, and what their NICs say of themselves.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "engine/pair.h"

namespace te::test {

using Settings = std::map<std::string, std::string>;

inline const Settings kOneNic = {{"fabric_addresses", "127.0.0.1"}};
inline const Settings kTwoNics = {{"fabric_addresses", "127.0.0.1,127.0.0.2"}};

// Null where libfabric has no such provider.
inline std::unique_ptr<Engine> make_fabric_engine(const Settings& settings, std::string* why,
                                                  const char* transport = "fabric:tcp") {
  std::unique_ptr<Engine> engine = make_engine(settings, "");
  const Status installed = engine->install_transport(transport);
  if (installed.ok()) return engine;
  *why = installed.message();
  EXPECT_EQ(installed.code(), Code::kUnsupported);
  return nullptr;
}

struct Totals {
  uint64_t completed = 0;
  uint64_t failed = 0;
  uint64_t inflight = 0;
  uint64_t ready = 0;
  uint64_t paths = 0;
};

inline Totals totals(Engine& engine) {
  Totals result;
  for (const PathInfo& path : engine.paths()) {
    result.completed += path.completed_slices;
    result.failed += path.failed_slices;
    result.inflight += path.inflight_bytes;
    result.ready += path.state == "ready" ? 1 : 0;
    ++result.paths;
  }
  return result;
}

// The bytes that each local device moved.
inline std::map<std::string, uint64_t> moved_by_device(Engine& engine) {
  std::map<std::string, uint64_t> result;
  for (const PathInfo& path : engine.paths()) result[path.local_device] += path.completed_bytes;
  return result;
}

// What the NICs of engines that ended meanwhile say of their operations.
class Operations {
 public:
  struct Sum {
    uint64_t posted = 0;
    uint64_t completed = 0;
    uint64_t failed = 0;
    uint64_t ended = 0;  // with the endpoint
    uint64_t nics = 0;
  };

  Operations() {
    set_log_level(LogLevel::kDebug);
    set_log_hook([this](LogLevel level, std::string_view line) {
      const size_t name = line.rfind(": ", line.find(" operations: "));
      const bool counts = level == LogLevel::kDebug && name != std::string_view::npos;
      if (level < LogLevel::kInfo)
        std::printf("%.*s\n", static_cast<int>(line.size()), line.data());
      Sum one;
      if (!counts || std::sscanf(std::string(line.substr(name)).c_str(),
                                 ": %lu operations: %lu completed, %lu failed, %lu ended",
                                 &one.posted, &one.completed, &one.failed, &one.ended) != 4) {
        return;
      }
      MutexLock lock(mutex_);
      sum_.posted += one.posted;
      sum_.completed += one.completed;
      sum_.failed += one.failed;
      sum_.ended += one.ended;
      ++sum_.nics;
    });
  }
  ~Operations() {
    set_log_hook(nullptr);
    set_log_level(LogLevel::kWarning);
  }
  Operations(const Operations&) = delete;
  Operations& operator=(const Operations&) = delete;

  Sum sum() const {
    MutexLock lock(mutex_);
    return sum_;
  }
  // Every post of so many NICs ended in one completion.
  testing::AssertionResult none_vanished(uint64_t nics) const {
    const Sum all = sum();
    if (all.nics == nics && all.posted > 0 &&
        all.posted == all.completed + all.failed + all.ended) {
      return testing::AssertionSuccess();
    }
    return testing::AssertionFailure()
           << all.nics << " NICs: " << all.posted << " posted, " << all.completed << " completed, "
           << all.failed << " failed, " << all.ended << " ended";
  }

 private:
  mutable Mutex mutex_;
  Sum sum_ TE_GUARDED_BY(mutex_);
};

// Two engines and memory of both.
class Fabric : public testing::Test {
 protected:
  // Ends both; then the counters are known.
  void end() {
    local_.reset();
    remote_.reset();
    initiator_.reset();
    target_.reset();
  }
  // False where libfabric is missing; the test is then skipped.
  bool begin(const Settings& settings, uint64_t size, const char* transport = "fabric:tcp") {
    return begin(settings, settings, size, transport);
  }
  bool begin(const Settings& settings, const Settings& target, uint64_t size,
             const char* transport) {
    initiator_ = make_fabric_engine(settings, &why_, transport);
    if (!initiator_) return false;
    target_ = make_fabric_engine(target, &why_, transport);
    local_ = std::make_unique<Registered>(*initiator_, size);
    remote_ = std::make_unique<Registered>(*target_, size);
    const Result<SegmentId> id = initiator_->open_segment(target_->local_endpoint());
    EXPECT_TRUE(id.ok()) << id.status().to_string();
    segment_ = id.ok() ? *id : -1;
    return true;
  }
  TransferRequest request(Opcode opcode, uint64_t at, uint64_t length) {
    return {opcode, local_->data() + at, segment_, reinterpret_cast<uint64_t>(remote_->data()) + at,
            length};
  }

  std::string why_;
  std::unique_ptr<Engine> initiator_;
  std::unique_ptr<Engine> target_;
  std::unique_ptr<Registered> local_;
  std::unique_ptr<Registered> remote_;
  SegmentId segment_ = -1;
};

}  // namespace te::test
