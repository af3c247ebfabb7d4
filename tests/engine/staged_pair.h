// Two engines in one process, with memory that no transport reaches at either end or at both.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/pair.h"
#include "engine/restart.h"
#include "support/bytes.h"
#include "support/engines.h"
#include "support/fake_memory.h"

namespace te::test {

class StagedPair {
 public:
  static constexpr uint64_t kPart = 64 << 10;
  static constexpr uint64_t kSize = 16 * kPart;

  // Which end is memory of that kind; the other one is host memory.
  struct Ends {
    bool local = false;
    bool remote = false;
  };

  StagedPair(const std::string& transport, const Ends& ends,
             std::map<std::string, std::string> initiator_config,
             std::map<std::string, std::string> target_config)
      : transport_(transport),
        ends_(ends),
        fake_local_(driver, kSize),
        fake_remote_(driver, kSize) {
    for (auto* config : {&initiator_config, &target_config}) {
      config->emplace("staging_part_bytes", std::to_string(kPart));
    }
    initiator_ = make_engine(initiator_config, transport);
    target_ = make_engine(target_config, transport);
    EXPECT_TRUE(initiator_->register_memory(local_memory(), kSize, "*").ok());
    EXPECT_TRUE(target_->register_memory(remote_memory(), kSize, "*").ok());
    const Result<SegmentId> id = initiator_->open_segment(target_->local_endpoint());
    EXPECT_TRUE(id.ok()) << id.status().to_string();
    if (id.ok()) segment = *id;
  }

  Engine& initiator() { return *initiator_; }
  Engine& target() { return *target_; }
  void end_initiator() { initiator_.reset(); }
  void end_target() { target_.reset(); }
  // Another run takes its place, with `memory` as its buffer.
  void restart_target(std::byte* memory) {
    ASSERT_NO_FATAL_FAILURE(
        restart(target_, {{"staging_part_bytes", std::to_string(kPart)}}, transport_));
    ASSERT_TRUE(target_->register_memory(memory, kSize, "*").ok());
  }

  // What engines know, and where the test sees the bytes.
  std::byte* local_memory() { return ends_.local ? fake_local_.data() : host_local_.data(); }
  std::byte* remote_memory() { return ends_.remote ? fake_remote_.data() : host_remote_.data(); }
  std::byte* local() { return ends_.local ? fake_local_.view() : host_local_.data(); }
  std::byte* remote() { return ends_.remote ? fake_remote_.view() : host_remote_.data(); }

  TransferRequest request(Opcode opcode, uint64_t at, uint64_t length) {
    return {opcode, local_memory() + at, segment, reinterpret_cast<uint64_t>(remote_memory()) + at,
            length};
  }
  // Moves a range and compares both memories as a whole: no byte beside it changes.
  testing::AssertionResult moves(Opcode opcode, uint64_t at, uint64_t length) {
    std::byte* const from = opcode == Opcode::kWrite ? local() : remote();
    std::byte* const to = opcode == Opcode::kWrite ? remote() : local();
    const uint64_t seed = ++seed_;
    stamp(from, kSize, seed);
    std::vector<std::byte> expected(kSize, std::byte{0xEE});
    std::memset(to, 0xEE, kSize);
    std::memcpy(expected.data() + at, from + at, length);
    const TransferStatus status = transfer(initiator(), {request(opcode, at, length)});
    if (status.state != TaskState::kCompleted)
      return testing::AssertionFailure() << "not completed";
    if (status.transferred_bytes != length) {
      return testing::AssertionFailure() << status.transferred_bytes << " bytes were counted";
    }
    if (std::memcmp(to, expected.data(), kSize) != 0) {
      return testing::AssertionFailure() << "wrong bytes: " << length << " at " << at;
    }
    return testing::AssertionSuccess();
  }

  FakeMemoryDriver driver;
  SegmentId segment = -1;

 private:
  const std::string transport_;
  const Ends ends_;
  FakeMemory fake_local_, fake_remote_;
  std::vector<std::byte> host_local_ = std::vector<std::byte>(kSize);
  std::vector<std::byte> host_remote_ = std::vector<std::byte>(kSize);
  std::unique_ptr<Engine> target_, initiator_;
  uint64_t seed_ = 0;
};

inline constexpr StagedPair::Ends kAllEnds[] = {{true, false}, {false, true}, {true, true}};

inline std::string ends_name(const StagedPair::Ends& ends) {
  return ends.local && ends.remote ? "both" : ends.local ? "local" : "remote";
}

}  // namespace te::test
