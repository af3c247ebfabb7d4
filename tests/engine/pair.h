// Two engines in one process that talk over loopback, memory of both, and the question whether they
// still work: what most tests of failures need.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/bytes.h"
#include "support/engines.h"
#include "support/facts.h"
#include "support/fails_with.h"

namespace te::test {

class Pair {
 public:
  static constexpr uint64_t kSize = 4 << 20;

  explicit Pair(const std::map<std::string, std::string>& config = {},
                const std::string& transport = "tcp")
      : initiator_(make_engine(config, transport)),
        target_(make_engine(config, transport)),
        local_(std::make_unique<Registered>(*initiator_, kSize)),
        remote_(std::make_unique<Registered>(*target_, kSize)) {
    Result<SegmentId> id = initiator_->open_segment(target_->local_endpoint());
    EXPECT_TRUE(id.ok()) << id.status().to_string();
    if (id.ok()) segment_ = *id;
  }

  Engine& initiator() { return *initiator_; }
  Engine& target() { return *target_; }
  std::byte* local() { return local_->data(); }
  std::byte* remote() { return remote_->data(); }
  uint64_t address() { return reinterpret_cast<uint64_t>(remote_->data()); }
  SegmentId segment() const { return segment_; }

  TransferRequest write(uint64_t at, uint64_t length) {
    return {Opcode::kWrite, local() + at, segment_, address() + at, length};
  }
  TransferRequest read(uint64_t at, uint64_t length) {
    return {Opcode::kRead, local() + at, segment_, address() + at, length};
  }

  // New bytes go to the target and come back.
  testing::AssertionResult works() {
    const uint64_t seed = ++seed_;
    constexpr uint64_t kLength = 300'001;
    stamp(local() + 5, kLength, seed);
    if (transfer(*initiator_, {write(5, kLength)}).state != TaskState::kCompleted) {
      return testing::AssertionFailure() << "a WRITE does not complete any more";
    }
    if (difference(remote() + 5, kLength, seed) != kSame) {
      return testing::AssertionFailure() << "a WRITE puts wrong bytes";
    }
    std::memset(local(), 0, kSize);
    if (transfer(*initiator_, {read(5, kLength)}).state != TaskState::kCompleted) {
      return testing::AssertionFailure() << "a READ does not complete any more";
    }
    if (difference(local() + 5, kLength, seed) != kSame) {
      return testing::AssertionFailure() << "a READ brings wrong bytes";
    }
    return testing::AssertionSuccess();
  }

 private:
  std::unique_ptr<Engine> initiator_;
  std::unique_ptr<Engine> target_;
  std::unique_ptr<Registered> local_;
  std::unique_ptr<Registered> remote_;
  SegmentId segment_ = -1;
  uint64_t seed_ = 0;
};

// A submission that ends in TIMEOUT after this long.
inline SubmitOptions within(int64_t ms) {
  SubmitOptions options;
  options.timeout = std::chrono::milliseconds(ms);
  return options;
}

// Submits without waiting; the batch, or kInvalidBatch and a failure.
inline BatchId submit_new(Engine& engine, const std::vector<TransferRequest>& requests,
                          const SubmitOptions& options = {}) {
  Result<BatchId> batch = engine.allocate_batch(requests.size());
  EXPECT_TRUE(batch.ok()) << batch.status().to_string();
  if (!batch.ok()) return kInvalidBatch;
  const Status status = engine.submit(*batch, requests, options);
  EXPECT_TRUE(status.ok()) << status.to_string();
  return *batch;
}

}  // namespace te::test
