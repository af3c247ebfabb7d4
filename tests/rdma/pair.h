// Two engines on two RDMA devices each, with a wire between them, and their links.
#pragma once

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "rdma/devices.h"
#include "support/bytes.h"
#include "support/engines.h"
#include "support/facts.h"

namespace te::test {

using Settings = std::map<std::string, std::string>;

inline const char* const kInitiatorNics = "rxe0,rxe1";
inline const char* const kTargetNics = "rxe2,rxe3";

inline void set_link(int device, bool up) {
  ASSERT_EQ(::system(fmt::format("ip link set eth{} {}", device, up ? "up" : "down").c_str()), 0);
}

// How many of a kind ("qp", "mr") the kernel knows of devices whose names begin so.
inline int rdma_resources(const std::string& kind, const std::string& devices) {
  const std::string command = fmt::format(
      "rdma resource show {} 2>/dev/null | grep -c '^link {}\\|^dev {}'", kind, devices, devices);
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return -1;
  int count = -1;
  if (std::fscanf(pipe, "%d", &count) != 1) count = -1;
  ::pclose(pipe);
  return count;
}

inline std::unique_ptr<Engine> make_rdma_engine(Settings settings,
                                                const std::vector<std::string>& transports) {
  std::unique_ptr<Engine> engine = make_engine(std::move(settings), "");
  for (const std::string& transport : transports) {
    const Status installed = engine->install_transport(transport);
    EXPECT_TRUE(installed.ok()) << installed.to_string();
  }
  return engine;
}

// The state of each path over RDMA, by "rxe0 rxe2".
inline std::map<std::string, PathInfo> rdma_paths(Engine& engine) {
  std::map<std::string, PathInfo> result;
  for (PathInfo& path : engine.paths()) {
    if (path.transport != "rdma") continue;
    result[path.local_device + " " + path.remote_device] = std::move(path);
  }
  return result;
}

class RdmaPair : public testing::Test {
 protected:
  static constexpr int kThreads = 2;
  static constexpr uint64_t kPart = 1 << 20;
  static constexpr uint64_t kSize = kThreads * kPart;

  void begin(const std::vector<std::string>& transports = {"rdma"}, Settings settings = {}) {
    settings["nics"] = kTargetNics;
    target_ = make_rdma_engine(settings, transports);
    settings["nics"] = kInitiatorNics;
    initiator_ = make_rdma_engine(settings, transports);
    local_ = std::make_unique<Registered>(*initiator_, 2 * kSize);
    remote_ = std::make_unique<Registered>(*target_, kSize);
    const Result<SegmentId> id = initiator_->open_segment(target_->local_endpoint());
    ASSERT_TRUE(id.ok()) << id.status().to_string();
    segment_ = *id;
  }
  void TearDown() override {
    end_load();
    if (vm_nics() == 0) return;
    for (int device = 0; device < vm_nics(); ++device) set_link(device, true);
  }

  uint64_t address() { return reinterpret_cast<uint64_t>(remote_->data()); }
  TransferRequest write(uint64_t at, uint64_t length) {
    return {Opcode::kWrite, local_->data() + at, segment_, address() + at, length};
  }

  // Writes a part and reads it back, in pieces; empty: it came back right.
  std::string round(int thread, uint64_t seed) {
    constexpr uint64_t kPiece = kPart / 8;
    const uint64_t at = static_cast<uint64_t>(thread) * kPart;
    std::byte* back = local_->data() + kSize + at;
    stamp(local_->data() + at, kPart, seed);
    std::memset(back, 0, kPart);
    for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
      std::byte* memory = opcode == Opcode::kWrite ? local_->data() + at : back;
      std::vector<TransferRequest> requests;
      for (uint64_t piece = 0; piece < kPart; piece += kPiece) {
        requests.push_back({opcode, memory + piece, segment_, address() + at + piece, kPiece});
      }
      if (transfer(*initiator_, requests).state != TaskState::kCompleted) return "a task failed";
    }
    const size_t wrong = difference(back, kPart, seed);
    return wrong == kSame ? "" : fmt::format("byte {} is wrong", wrong);
  }
  void begin_load() {
    last_ns_ = now();
    longest_ns_ = 0;
    for (int thread = 0; thread < kThreads; ++thread) {
      load_.emplace_back([this, thread] {
        for (uint64_t seed = 1; !over_.load(); ++seed) {
          const std::string problem =
              round(thread, seed * kThreads + static_cast<uint64_t>(thread));
          if (!problem.empty()) {
            ++failures_;
            ADD_FAILURE() << problem;
            return;
          }
          const int64_t before = last_ns_.exchange(now());
          int64_t longest = longest_ns_.load();
          while (now() - before > longest &&
                 !longest_ns_.compare_exchange_weak(longest, now() - before)) {
          }
          ++rounds_;
        }
      });
    }
  }
  void end_load() {
    over_ = true;
    for (std::thread& thread : load_) thread.join();
    load_.clear();
    over_ = false;
  }
  // Some rounds more are done.
  bool goes_on(int rounds = 3) {
    const int until = rounds_.load() + rounds;
    return eventually([&] { return rounds_.load() >= until || failures_.load() > 0; }) &&
           failures_.load() == 0;
  }
  // Bytes go over each of these again.
  bool in_use(const std::vector<std::string>& names) {
    const std::map<std::string, PathInfo> before = rdma_paths(*initiator_);
    return eventually([&] {
      std::map<std::string, PathInfo> now = rdma_paths(*initiator_);
      return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
        const auto found = before.find(name);
        return found != before.end() && now[name].state == "ready" &&
               now[name].completed_bytes > found->second.completed_bytes;
      });
    });
  }
  static int64_t now() {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  }

  std::unique_ptr<Engine> target_;
  std::unique_ptr<Engine> initiator_;
  std::unique_ptr<Registered> local_;
  std::unique_ptr<Registered> remote_;
  SegmentId segment_ = -1;
  std::vector<std::thread> load_;
  std::atomic<bool> over_{false};
  std::atomic<int> rounds_{0};
  std::atomic<int> failures_{0};
  std::atomic<int64_t> last_ns_{0};
  std::atomic<int64_t> longest_ns_{0};  // without a round that ended
};

}  // namespace te::test
