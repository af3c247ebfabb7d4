// Two engines in one process, with memory of a GPU at one end, or at both.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/pair.h"
#include "engine/restart.h"
#include "support/bytes.h"
#include "support/engines.h"
#include "support/gpu_memory.h"

namespace te::test {

// Which kind of memory an end has.
struct End {
  int gpu = -1;  // host memory
  GpuMemory::Kind kind = GpuMemory::Kind::kWhole;
};

class GpuPair {
 public:
  static constexpr uint64_t kPart = 64 << 10;
  static constexpr uint64_t kSize = 5 << 20;

  using Settings = std::map<std::string, std::string>;

  GpuPair(const std::string& transport, End local, End remote, Settings of_initiator = {},
          Settings of_target = {})
      : local_(local), remote_(remote) {
    for (Settings* settings : {&of_initiator, &of_target}) {
      settings->emplace("staging_part_bytes", std::to_string(kPart));
    }
    initiator_ = make_engine(of_initiator, transport);
    if (transport != "local") {
      target_ = make_engine(of_target, transport);
      endpoint_ = target_->local_endpoint();
    }
    start_target_ = [this, transport, of_target] {
      start_again(target_, endpoint_, of_target, transport);
    };
    EXPECT_TRUE(initiator().register_memory(local_.data(), kSize, "*").ok());
    EXPECT_TRUE(target().register_memory(remote_.data(), kSize, "*").ok());
    const Result<SegmentId> id = initiator().open_segment(target().local_endpoint());
    EXPECT_TRUE(id.ok()) << id.status().to_string();
    if (id.ok()) segment = *id;
  }

  Engine& initiator() { return *initiator_; }
  Engine& target() { return target_ ? *target_ : *initiator_; }
  // On the initiator's paths.
  uint64_t staged_bytes() {
    uint64_t bytes = 0;
    for (const PathInfo& path : initiator().paths()) bytes += path.staged_bytes;
    return bytes;
  }
  void end_target() { target_.reset(); }
  // Another run takes its place, with the same memory.
  void restart_target() {
    target_.reset();
    ASSERT_NO_FATAL_FAILURE(start_target_());
    ASSERT_TRUE(target_->register_memory(remote_.data(), kSize, "*").ok());
  }
  void end_engines() {
    initiator_.reset();
    target_.reset();
  }

  // Of either end: for engines, for the test, and what it lies in.
  struct Side {
    explicit Side(End end) {
      if (end.gpu >= 0) {
        gpu.emplace(end.gpu, kSize, end.kind);
      } else {
        host.resize(kSize);
      }
    }
    std::byte* data() { return gpu ? gpu->data() : host.data(); }
    std::byte* view() { return gpu ? gpu->view() : host.data(); }
    std::optional<GpuMemory> gpu;
    std::vector<std::byte> host;
  };
  Side& local() { return local_; }
  Side& remote() { return remote_; }

  TransferRequest request(Opcode opcode, uint64_t at, uint64_t length) {
    return {opcode, local_.data() + at, segment, reinterpret_cast<uint64_t>(remote_.data()) + at,
            length};
  }
  // Moves a range and compares both memories as a whole: no byte beside it changes.
  testing::AssertionResult moves(Opcode opcode, uint64_t at, uint64_t length) {
    std::byte* const from = opcode == Opcode::kWrite ? local_.view() : remote_.view();
    std::byte* const to = opcode == Opcode::kWrite ? remote_.view() : local_.view();
    stamp(from, kSize, ++seed_);
    std::vector<std::byte> expected(kSize, std::byte{0xEE});
    std::memset(to, 0xEE, kSize);
    std::memcpy(expected.data() + at, from + at, length);
    const TransferStatus status = transfer(initiator(), {request(opcode, at, length)});
    if (status.state != TaskState::kCompleted) {
      return testing::AssertionFailure() << "not completed";
    }
    if (status.transferred_bytes != length) {
      return testing::AssertionFailure() << status.transferred_bytes << " bytes were counted";
    }
    if (std::memcmp(to, expected.data(), kSize) != 0) {
      return testing::AssertionFailure() << "wrong bytes: " << length << " at " << at;
    }
    return testing::AssertionSuccess();
  }
  // A list of odd ranges, which land in another order than they come in.
  testing::AssertionResult moves_list(Opcode opcode) {
    constexpr uint64_t kRanges = 100, kRoom = kSize / kRanges, kLength = 20'001;
    std::byte* const from = opcode == Opcode::kWrite ? local_.view() : remote_.view();
    std::byte* const to = opcode == Opcode::kWrite ? remote_.view() : local_.view();
    stamp(from, kSize, ++seed_);
    std::vector<std::byte> expected(kSize, std::byte{0xEE});
    std::memset(to, 0xEE, kSize);
    const std::vector<uint64_t> lengths(kRanges, kLength);
    std::vector<uint64_t> here, there;
    for (uint64_t i = 0; i < kRanges; ++i) {
      const uint64_t source = i * kRoom + 3, target = (kRanges - 1 - i) * kRoom + 5;
      const bool write = opcode == Opcode::kWrite;
      here.push_back(reinterpret_cast<uint64_t>(local_.data()) + (write ? source : target));
      there.push_back(reinterpret_cast<uint64_t>(remote_.data()) + (write ? target : source));
      std::memcpy(expected.data() + target, from + source, kLength);
    }
    const Result<BatchId> batch = initiator().allocate_batch(1);
    const Status submitted =
        initiator().submit_list(*batch, AddressList{opcode, segment, here, there, lengths});
    if (!submitted.ok()) return testing::AssertionFailure() << submitted.to_string();
    EXPECT_TRUE(initiator().wait(*batch, std::chrono::seconds(20)).ok());
    const TransferStatus status = *initiator().batch_status(*batch);
    EXPECT_TRUE(initiator().free_batch(*batch).ok());
    if (status.state != TaskState::kCompleted) {
      return testing::AssertionFailure() << "not completed";
    }
    if (std::memcmp(to, expected.data(), kSize) != 0) {
      return testing::AssertionFailure() << "wrong bytes";
    }
    return testing::AssertionSuccess();
  }
  // Both ways, ranges of all sizes and a list; the first ones are small enough to travel inside a
  // request.
  testing::AssertionResult moves_all() {
    for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
      for (const uint64_t length :
           {uint64_t{1}, uint64_t{200}, kPart + 1, 3 * GpuMemory::kChunk / 2, kSize - 40}) {
        const testing::AssertionResult moved = moves(opcode, 40, length);
        if (!moved) return moved;
      }
      const testing::AssertionResult moved = moves_list(opcode);
      if (!moved) return moved;
    }
    return testing::AssertionSuccess();
  }
  // What a WRITE that ended early left under way at the target has ended once another one is done:
  // before the test touches the target's memory.
  bool settle() {
    return transfer(initiator(), {request(Opcode::kWrite, 0, 1)}).state == TaskState::kCompleted;
  }
  // The error of a request that has to fail.
  Status error_of(const TransferRequest& request) {
    const BatchId batch = submit_new(initiator(), {request}, within(10'000));
    EXPECT_TRUE(initiator().wait(batch, std::chrono::seconds(20)).ok());
    EXPECT_EQ(initiator().status(batch, 0)->state, TaskState::kFailed);
    const Result<TaskError> why = initiator().task_error(batch, 0);
    EXPECT_TRUE(why.ok());
    EXPECT_TRUE(initiator().free_batch(batch).ok());
    return why.ok() ? why->status : Status();
  }

  SegmentId segment = -1;

 private:
  Side local_, remote_;
  std::unique_ptr<Engine> target_, initiator_;
  std::string endpoint_;  // of the target
  std::function<void()> start_target_;
  uint64_t seed_ = 0;
};

}  // namespace te::test
