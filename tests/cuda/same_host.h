// Transfers over shm between memory of this process and of another one, of which one at least is
// memory of a GPU.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/pair.h"
#include "support/bytes.h"
#include "support/engines.h"
#include "support/facts.h"
#include "support/gpu_memory.h"
#include "support/peer.h"

namespace te::test {

class SameHost : public testing::Test {
 protected:
  static constexpr uint64_t kChunk = GpuMemory::kChunk;
  static constexpr uint64_t kSize = 5 * kChunk;
  static constexpr uint64_t kSeed = 3;

  void SetUp() override { fake_cuda::reset(); }
  void TearDown() override {
    initiator_.reset();
    EXPECT_EQ(fake_cuda::copies_under_way(), 0);
    EXPECT_EQ(fake_cuda::open_ipc_handles(), 0) << "handles stay open";
    EXPECT_EQ(fake_cuda::chunk_handles(), 0) << "handles of chunks are not released";
    EXPECT_EQ(fake_cuda::streams(), 0);
    EXPECT_EQ(fake_cuda::pinned_ranges(), 0) << "memory stays pinned";
    EXPECT_EQ(fake_cuda::lost_pins(), 0) << "memory was unmapped while it was pinned";
    peer_.reset();
    fake_cuda::reset();
  }

  // For engines, and where the test sees the bytes.
  virtual std::byte* data() = 0;
  virtual std::byte* view() = 0;

  void start_peer(PeerOptions options) {
    if (options.size == PeerOptions().size) options.size = kSize;
    options.seed = kSeed;
    size_ = options.size;
    peer_.emplace(options);
    ASSERT_TRUE(peer_->running());
  }
  void open_segment(const std::string& transport = "shm") {
    initiator_ = make_engine({}, transport);
    ASSERT_TRUE(initiator_->register_memory(data(), size_, "*").ok());
    const Result<SegmentId> id = initiator_->open_segment(peer_->segment());
    ASSERT_TRUE(id.ok()) << id.status().to_string();
    segment_ = *id;
  }
  TransferRequest request(Opcode opcode, uint64_t at, uint64_t length) {
    return {opcode, data() + at, segment_, peer_->address() + at, length};
  }
  TaskState run(const TransferRequest& request) { return transfer(*initiator_, {request}).state; }
  Status error_of(const TransferRequest& request) {
    const BatchId batch = submit_new(*initiator_, {request}, within(10'000));
    EXPECT_TRUE(initiator_->wait(batch, std::chrono::seconds(20)).ok());
    EXPECT_EQ(initiator_->status(batch, 0)->state, TaskState::kFailed);
    const Status status = initiator_->task_error(batch, 0)->status;
    EXPECT_TRUE(initiator_->free_batch(batch).ok());
    return status;
  }
  // Both directions of a range, and no byte beside it.
  void expect_moves(uint64_t at, uint64_t length) {
    std::memset(view(), 0xEE, size_);
    ASSERT_EQ(run(request(Opcode::kRead, at, length)), TaskState::kCompleted);
    std::vector<std::byte> expected(size_);
    stamp(expected.data(), size_, seed_);
    EXPECT_EQ(std::memcmp(view() + at, expected.data() + at, length), 0);
    EXPECT_EQ(other_than(view(), at, std::byte{0xEE}), kSame);
    EXPECT_EQ(other_than(view() + at + length, size_ - at - length, std::byte{0xEE}), kSame);
    stamp(view(), size_, ++seed_);
    ASSERT_EQ(run(request(Opcode::kWrite, at, length)), TaskState::kCompleted);
    EXPECT_EQ(peer_->ask("same " + std::to_string(seed_) + " " + std::to_string(at) + " " +
                         std::to_string(length)),
              "same");
    ASSERT_EQ(peer_->ask("stamp " + std::to_string(seed_)), "ok");
  }
  // The same for all of it, with one copy by the driver each.
  void expect_direct() {
    const uint64_t before = fake_cuda::copies();
    expect_moves(0, size_);
    EXPECT_EQ(fake_cuda::copies() - before, 2u);
  }
  void expect_reason(const std::string& reason) {
    std::string said;
    for (const PathInfo& path : initiator_->paths()) {
      if (path.transport == "shm") said = path.last_error;
    }
    EXPECT_NE(said.find("staged in host memory"), std::string::npos) << said;
    EXPECT_NE(said.find(reason), std::string::npos) << said;
  }
  uint64_t peer_calls(const std::string& function) {
    return std::stoull(peer_->ask("calls " + function));
  }
  // The request that meets an error of the driver fails with it.
  void expect_failed_copy() {
    fake_cuda::fail("cuMemcpyAsync", cuda::CuResult::kInvalidValue);
    const Status status = error_of(request(Opcode::kRead, 0, size_));
    EXPECT_NE(status.message().find("cuMemcpyAsync failed"), std::string::npos)
        << status.to_string();
    fake_cuda::fail("cuMemcpyAsync", cuda::CuResult::kSuccess);
  }
  // The peer unregisters its memory while threads write it, so many times.
  void unregister_under_load(int rounds) {
    stamp(view(), size_, 9);
    fake_cuda::slow_down(500, 0);
    std::atomic<bool> over{false};
    std::atomic<uint64_t> completed{0};
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < 3; ++i) {
      threads.emplace_back([&, i] {
        while (!over.load()) {
          const BatchId batch =
              submit_new(*initiator_, {request(Opcode::kWrite, i * kChunk, kChunk)}, within(100));
          EXPECT_TRUE(initiator_->wait(batch, std::chrono::seconds(20)).ok());
          completed += initiator_->batch_status(batch)->state == TaskState::kCompleted ? 1 : 0;
          EXPECT_TRUE(initiator_->free_batch(batch).ok());
        }
      });
    }
    for (int round = 0; round < rounds; ++round) {
      const uint64_t before = completed.load();
      EXPECT_TRUE(eventually([&] { return completed.load() > before + 5; })) << "round " << round;
      EXPECT_EQ(peer_->ask("unregister"), "ok");
      EXPECT_EQ(fake_cuda::open_ipc_handles(), 0);
      EXPECT_EQ(peer_->ask("fill 90"), "ok");
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      EXPECT_EQ(peer_->ask("filled 90"), "same");
      EXPECT_EQ(peer_->ask("register"), "ok");
    }
    over = true;
    for (std::thread& thread : threads) thread.join();
  }
  // Requests are under way, and it is killed.
  void kill_peer_under_load() {
    fake_cuda::slow_down(2'000, 0);
    const std::vector<TransferRequest> requests(40, request(Opcode::kRead, 0, size_));
    const BatchId batch = submit_new(*initiator_, requests, within(10'000));
    EXPECT_TRUE(eventually([] { return fake_cuda::copies_under_way() > 0; }));
    peer_->kill();
    ASSERT_TRUE(initiator_->wait(batch, std::chrono::seconds(20)).ok());
    ASSERT_TRUE(initiator_->free_batch(batch).ok());
    EXPECT_EQ(fake_cuda::copies_under_way(), 0);
    expect_quiet();
    fake_cuda::slow_down(0, 0);
  }
  // Requests whose copies take 5 s end at their deadline, or when they are cancelled, and nothing
  // is copied any more then.
  void expect_to_end_in_time(TaskState state) {
    constexpr int kRequests = 100;
    for (const Opcode opcode : {Opcode::kRead, Opcode::kWrite}) {
      expect_moves(0, size_);
      fake_cuda::slow_down(50'000, 0);
      const bool cancels = state == TaskState::kCancelled;
      const std::vector<TransferRequest> requests(kRequests, request(opcode, 0, size_));
      const auto begin = std::chrono::steady_clock::now();
      const BatchId batch =
          submit_new(*initiator_, requests, cancels ? SubmitOptions() : within(200));
      if (cancels) {
        EXPECT_TRUE(eventually([] { return fake_cuda::copies_under_way() > 0; }));
        EXPECT_TRUE(initiator_->cancel(batch).ok());
      }
      ASSERT_TRUE(initiator_->wait(batch, std::chrono::seconds(20)).ok());
      EXPECT_EQ(fake_cuda::copies_under_way(), 0);
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
      EXPECT_EQ(initiator_->status(batch, kRequests - 1)->state, state);
      EXPECT_TRUE(initiator_->free_batch(batch).ok());
      ASSERT_EQ(peer_->ask("fill 90"), "ok");
      expect_quiet();
      EXPECT_EQ(peer_->ask("filled 90"), "same");
      fake_cuda::slow_down(0, 0);
      ASSERT_EQ(peer_->ask("stamp " + std::to_string(seed_)), "ok");
    }
  }
  // Nothing is copied here any more.
  void expect_quiet() {
    std::memset(view(), 0x5A, size_);
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    EXPECT_EQ(other_than(view(), size_, std::byte{0x5A}), kSame);
  }

  std::optional<PeerProcess> peer_;
  std::unique_ptr<Engine> initiator_;
  SegmentId segment_ = -1;
  uint64_t size_ = kSize;
  uint64_t seed_ = kSeed;
};

}  // namespace te::test
