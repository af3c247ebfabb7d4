// A peer in another process with memory of a GPU, which is killed and comes back.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "cuda/pair.h"
#include "support/peer.h"

namespace te::test {
namespace {

class GpuPeer : public testing::TestWithParam<const char*> {
 protected:
  static constexpr uint64_t kSize = 4 << 20;

  static PeerOptions options(uint16_t port) {
    PeerOptions peer;
    peer.port = port;
    peer.size = kSize;
    peer.seed = 3;
    peer.gpu = 1;
    return peer;
  }
  void SetUp() override {
    fake_cuda::reset();
    initiator_ = make_engine({}, GetParam());
    ASSERT_TRUE(initiator_->register_memory(memory_.data(), kSize, "cuda:0").ok());
  }
  void TearDown() override { initiator_.reset(); }

  SegmentId open(const PeerProcess& peer) {
    const Result<SegmentId> id = initiator_->open_segment(peer.segment());
    EXPECT_TRUE(id.ok()) << id.status().to_string();
    return id.ok() ? *id : -1;
  }
  void expect_moves(PeerProcess& peer, SegmentId segment) {
    std::memset(memory_.view(), 0, kSize);
    const TransferRequest read{Opcode::kRead, memory_.data(), segment, 0, kSize};
    ASSERT_EQ(transfer(*initiator_, {read}).state, TaskState::kCompleted);
    EXPECT_EQ(difference(memory_.view(), kSize, 3), kSame);
    stamp(memory_.view(), kSize, 8);
    const TransferRequest write{Opcode::kWrite, memory_.data(), segment, 0, kSize};
    ASSERT_EQ(transfer(*initiator_, {write}).state, TaskState::kCompleted);
    EXPECT_EQ(peer.ask("check 8 0 " + std::to_string(kSize)), "same");
  }

  GpuMemory memory_{0, kSize};
  std::unique_ptr<Engine> initiator_;
};

TEST_P(GpuPeer, BytesGoBetweenGpusOfTwoProcesses) {
  PeerProcess peer(options(0));
  ASSERT_TRUE(peer.running());
  expect_moves(peer, open(peer));
}

TEST_P(GpuPeer, RequestsEndWhenItIsKilledAndWorkWhenItIsBack) {
  SegmentId segment = -1;
  uint16_t port = 0;
  {
    PeerProcess peer(options(0));
    ASSERT_TRUE(peer.running());
    port = peer.port();
    segment = open(peer);
    expect_moves(peer, segment);
    fake_cuda::slow_down(5'000, 0);
    std::vector<TransferRequest> requests(
        32, TransferRequest{Opcode::kRead, memory_.data(), segment, 0, kSize});
    const BatchId batch = submit_new(*initiator_, requests, within(10'000));
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    peer.kill();
    ASSERT_TRUE(initiator_->wait(batch, std::chrono::seconds(20)).ok());
    EXPECT_EQ(initiator_->batch_status(batch)->state, TaskState::kFailed);
    ASSERT_TRUE(initiator_->free_batch(batch).ok());
    EXPECT_EQ(fake_cuda::copies_under_way(), 0);
    std::memset(memory_.view(), 0x5A, kSize);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(other_than(memory_.view(), kSize, std::byte{0x5A}), kSame);
    fake_cuda::slow_down(0, 0);
  }
  PeerProcess again(options(port));
  ASSERT_TRUE(again.running());
  expect_moves(again, segment);
}

INSTANTIATE_TEST_SUITE_P(Over, GpuPeer, testing::Values("tcp", "shm"),
                         [](const auto& each) { return std::string(each.param); });

}  // namespace
}  // namespace te::test
