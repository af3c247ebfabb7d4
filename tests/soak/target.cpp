// The target of a soak: an engine with the three buffers of world.h. Commands, each answered by a
// "done" event with the time that it took and an error, if any:
//   truncate | extend        the file behind kFragile becomes empty, or long again (zeros)
//   readonly | writable      the protection of kFragile
//   unregister B | register B | reregister B
//   quit                     destroys the engine
// Two threads: one obeys; one takes notifications, each of which must come once.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <iostream>
#include <set>
#include <sstream>
#include <thread>

#include "soak/report.h"
#include "soak/settings.h"
#include "soak/stalls.h"

namespace te::soak {
namespace {

// Far from what the kernel hands out, and the same in every run of a target, so that addresses
// which initiators know stay right.
constexpr uint64_t kBase = 0x7e90'0000'0000;
constexpr uint64_t kApart = uint64_t{1} << 30;

class Target {
 public:
  explicit Target(const Settings& settings)
      : settings_(settings), bytes_(settings.shape.buffer_bytes()) {}

  Status start() {
    auto engine = make_engine(settings_);
    if (!engine.ok()) return engine.status();
    engine_ = engine.take();
    for (const size_t buffer : {kKept, kFragile}) {
      TE_RETURN_IF_ERROR(map(buffer));
      TE_RETURN_IF_ERROR(engine_->register_memory(memory_[buffer], bytes_));
    }
    auto allocated = engine_->allocate(bytes_);
    if (!allocated.ok()) return allocated.status();
    memory_[kAllocated] = static_cast<std::byte*>(*allocated);
    nlohmann::json addresses = nlohmann::json::array();
    for (const std::byte* memory : memory_) addresses.push_back(reinterpret_cast<uint64_t>(memory));
    report(
        "ready",
        {{"pid", ::getpid()}, {"endpoint", engine_->local_endpoint()}, {"addresses", addresses}});
    return {};
  }

  void obey_until_the_end() {
    std::thread taker([this] { take_notifications(); });
    for (std::string line; std::getline(std::cin, line) && line != "quit";) answer(line);
    ended_ = true;
    taker.join();
    const int64_t begin = monotonic_ns();
    engine_.reset();
    finish("quit", begin, "");
  }

 private:
  Status map(size_t buffer) {
    const std::string path = memory_file(settings_.folder, settings_.index, buffer);
    files_[buffer] = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (files_[buffer] < 0 || ::ftruncate(files_[buffer], static_cast<off_t>(bytes_)) != 0) {
      return Status(Code::kResource, "cannot make " + path);
    }
    auto* wanted = reinterpret_cast<void*>(kBase + (settings_.index * kBuffers + buffer) * kApart);
    void* mapped = ::mmap(wanted, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE,
                          files_[buffer], 0);
    if (mapped == MAP_FAILED) return Status(Code::kResource, "cannot map " + path);
    memory_[buffer] = static_cast<std::byte*>(mapped);
    return {};
  }

  void answer(const std::string& line) {
    std::istringstream words(line);
    std::string command;
    size_t buffer = 0;
    words >> command >> buffer;
    const int64_t begin = monotonic_ns();
    std::string error;
    if (command == "truncate" || command == "extend") {
      const off_t length = command == "truncate" ? 0 : static_cast<off_t>(bytes_);
      if (::ftruncate(files_[kFragile], length) != 0) error = "ftruncate failed";
    } else if (command == "readonly" || command == "writable") {
      const int protection = command == "readonly" ? PROT_READ : PROT_READ | PROT_WRITE;
      if (::mprotect(memory_[kFragile], bytes_, protection) != 0) error = "mprotect failed";
    } else if (buffer >= kAllocated) {
      error = "no such buffer";
    } else if (command == "unregister") {
      error = unregister(buffer);
    } else if (command == "register") {
      error = register_again(buffer);
    } else if (command == "reregister") {
      error = unregister(buffer);
      if (error.empty()) error = register_again(buffer);
    } else {
      error = "no such command";
    }
    finish(command, begin, error);
  }

  void finish(const std::string& command, int64_t begin, const std::string& error) {
    heartbeat_.catch_up();
    const int64_t end = monotonic_ns();
    const int64_t took = end - begin - stalls_.within(begin, end);
    const bool local = command == "truncate" || command == "extend" || command == "readonly" ||
                       command == "writable";
    if (!local && took > settings_.call_ms * 1'000'000) {
      report_violation("blocked", fmt::format("target {}: {} took {} ms", settings_.index, command,
                                              took / 1'000'000));
    }
    report("done", {{"command", command}, {"ms", took / 1'000'000}, {"error", error}});
  }

  // From here on nothing may touch the buffer: what it holds is kept to compare.
  std::string unregister(size_t buffer) {
    const Status status = engine_->unregister_memory(memory_[buffer]);
    if (!status.ok()) return status.to_string();
    snapshot_.assign(memory_[buffer], memory_[buffer] + bytes_);
    return {};
  }

  std::string register_again(size_t buffer) {
    if (settings_.plant == "unregistered") memory_[buffer][bytes_ / 2] ^= std::byte{1};
    if (std::memcmp(snapshot_.data(), memory_[buffer], bytes_) != 0) {
      size_t at = 0;
      while (snapshot_[at] == memory_[buffer][at]) ++at;
      report_violation(
          "unregistered",
          fmt::format("target {}: byte {} of buffer {} changed after unregister_memory "
                      "had returned",
                      settings_.index, at, buffer));
    }
    snapshot_ = {};
    const Status status = engine_->register_memory(memory_[buffer], bytes_);
    return status.ok() ? "" : status.to_string();
  }

  void take_notifications() {
    while (!ended_) {
      for (const Notification& notification : engine_->take_notifications()) {
        if (seen_.insert(notification.message).second) continue;
        report_violation("notification", fmt::format("target {}: '{}' came twice", settings_.index,
                                                     notification.message));
      }
      if (settings_.plant == "leak" && ::open("/dev/null", O_RDONLY) < 0) ended_ = true;
      if (settings_.plant == "crash" && ++rounds_ == 40) ::raise(SIGSEGV);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }

  const Settings& settings_;
  const size_t bytes_;
  int files_[kBuffers] = {-1, -1, -1};
  std::byte* memory_[kBuffers] = {};
  std::vector<std::byte> snapshot_;
  std::unique_ptr<Engine> engine_;
  std::atomic<bool> ended_{false};
  std::set<std::string> seen_;
  int rounds_ = 0;
  StallLog stalls_;
  Heartbeat heartbeat_{stalls_};
};

}  // namespace

int run_target(const Settings& settings) {
  Target target(settings);
  const Status started = target.start();
  if (!started.ok()) {
    report("failed", {{"error", started.to_string()}});
    return 3;
  }
  target.obey_until_the_end();
  return 0;
}

}  // namespace te::soak
