// Engines and memory for tests: two engines in one process are two peers that talk over loopback.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "transfer_engine/engine.h"

namespace te::test {

// An engine without a directory on a free port of 127.0.0.1; fails the test when it cannot be made.
// `transport` alone reaches its peers; empty: what an engine has where nothing was installed.
inline std::unique_ptr<Engine> make_engine(std::map<std::string, std::string> config = {},
                                           const std::string& transport = "tcp") {
  EngineOptions options;
  options.host = "127.0.0.1";
  options.config = std::move(config);
  options.addressing = Addressing::kAuto;  // tests name places by both
  Result<std::unique_ptr<Engine>> engine = Engine::create(options);
  EXPECT_TRUE(engine.ok()) << engine.status().to_string();
  if (!engine.ok()) return nullptr;
  if (!transport.empty()) {
    const Status installed = (*engine)->install_transport(transport);
    EXPECT_TRUE(installed.ok()) << installed.to_string();
  }
  return engine.take();
}

// Bytes that differ from place to place and from seed to seed.
inline void fill(std::byte* at, uint64_t length, uint64_t seed) {
  for (uint64_t i = 0; i < length; i += sizeof(uint64_t)) {
    uint64_t x = seed * 0x9E3779B97F4A7C15ull + i;
    x ^= x >> 29;
    x *= 0xBF58476D1CE4E5B9ull;
    std::memcpy(at + i, &x, std::min<uint64_t>(sizeof x, length - i));
  }
}

// Where the bytes first differ from fill()'s, or `length`.
inline uint64_t first_difference(const std::byte* at, uint64_t length, uint64_t seed) {
  std::vector<std::byte> expected(length);
  fill(expected.data(), length, seed);
  if (std::memcmp(at, expected.data(), length) == 0) return length;
  return static_cast<uint64_t>(std::mismatch(at, at + length, expected.data()).first - at);
}

// Memory registered with an engine for as long as it lives.
class Registered {
 public:
  struct Allocated {};  // by the engine

  Registered(Engine& engine, size_t length, bool remote_accessible = true)
      : engine_(engine), bytes_(length), data_(bytes_.data()), size_(length) {
    const Status status = engine.register_memory(data_, length, "cpu:0", remote_accessible);
    EXPECT_TRUE(status.ok()) << status.to_string();
  }
  Registered(Engine& engine, size_t length, Allocated) : engine_(engine), size_(length) {
    const Result<void*> memory = engine.allocate(length);
    EXPECT_TRUE(memory.ok()) << memory.status().to_string();
    if (memory.ok()) data_ = static_cast<std::byte*>(*memory);
  }
  ~Registered() {
    const Status status = bytes_.empty() ? engine_.free(data_) : engine_.unregister_memory(data_);
    EXPECT_TRUE(status.ok()) << status.to_string();
  }
  Registered(const Registered&) = delete;
  Registered& operator=(const Registered&) = delete;
  std::byte* data() { return data_; }
  size_t size() const { return size_; }

 private:
  Engine& engine_;
  std::vector<std::byte> bytes_;
  std::byte* data_ = nullptr;
  const size_t size_;
};

// Submits all of them in one batch, waits, frees; the batch's state at the end.
inline TransferStatus transfer(Engine& engine, const std::vector<TransferRequest>& requests,
                               const SubmitOptions& options = {}) {
  Result<BatchId> batch = engine.allocate_batch(requests.size());
  EXPECT_TRUE(batch.ok()) << batch.status().to_string();
  if (!batch.ok()) return {};
  const Status submitted = engine.submit(*batch, requests, options);
  EXPECT_TRUE(submitted.ok()) << submitted.to_string();
  EXPECT_TRUE(engine.wait(*batch, std::chrono::seconds(60)).ok());
  const TransferStatus status = *engine.batch_status(*batch);
  for (size_t i = 0; i < requests.size() && status.state != TaskState::kCompleted; ++i) {
    Result<TaskError> why = engine.task_error(*batch, i);
    if (why.ok() && !why->status.ok()) {
      std::printf("task %zu: %s\n", i, why->status.to_string().c_str());
      break;
    }
  }
  EXPECT_TRUE(engine.free_batch(*batch).ok());
  return status;
}

}  // namespace te::test
