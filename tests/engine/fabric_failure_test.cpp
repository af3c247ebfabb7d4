// The libfabric transport while things fail: peers that die or stand still, and links.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <thread>

#include "engine/fabric.h"
#include "engine/loaded_peer.h"
#include "rdma/devices.h"
#include "support/servers.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

// Over one NIC or two on each side.
class FabricPeer : public testing::TestWithParam<Settings>, protected LoadedPeer {
 protected:
  FabricPeer() : LoadedPeer({.threads = 4, .part = 2 << 20, .requests = 16}) {}

  // False where libfabric is missing; the test is then skipped.
  bool begin() {
    std::unique_ptr<Engine> engine = make_fabric_engine(GetParam(), &why_);
    if (!engine) return false;
    PeerOptions options;
    options.transport = "fabric:tcp";
    options.environment["TRANSFER_ENGINE_FABRIC_ADDRESSES"] = GetParam().at("fabric_addresses");
    options.port = free_port();
    start_peer(options);
    if (HasFatalFailure()) return true;
    open(std::move(engine));
    return true;
  }

  // Afterwards every post of the engine has ended; so many NICs as it had.
  uint64_t end() {
    local_.reset();
    engine_.reset();
    return GetParam() == kOneNic ? 1 : 2;
  }

  const Operations operations_;
  std::string why_;
};

INSTANTIATE_TEST_SUITE_P(Nics, FabricPeer, testing::Values(kOneNic, kTwoNics),
                         [](const auto& settings) {
                           return std::string(settings.param == kOneNic ? "one" : "two");
                         });

TEST_P(FabricPeer, AKilledTargetThatReturnsIsFollowedTwentyTimes) {
  if (!begin()) GTEST_SKIP() << why_;
  for (uint64_t round = 0; round < 20; ++round) {
    ASSERT_TRUE(works(10 + round)) << "round " << round;
    start_load();
    EXPECT_TRUE(eventually([&] { return completed_.load() > 8 || ended_.load() > 0; }));
    ASSERT_NO_FATAL_FAILURE(replace_peer());
  }
  EXPECT_TRUE(works(99));
  // Of the last run all NICs are used, whatever became of the paths to those before.
  std::map<std::string, uint64_t> before = moved_by_device(*engine_);
  EXPECT_TRUE(eventually([&] {
    EXPECT_TRUE(works(100));
    const std::map<std::string, uint64_t> after = moved_by_device(*engine_);
    return HasFailure() || std::all_of(after.begin(), after.end(), [&](const auto& nic) {
             return nic.second > before[nic.first];
           });
  }));
  EXPECT_EQ(totals(*engine_).inflight, 0u);
  EXPECT_TRUE(operations_.none_vanished(end()));
  EXPECT_GT(operations_.sum().failed + operations_.sum().ended, 0u) << "nothing was under way";
}

TEST_P(FabricPeer, AStoppedTargetTimesTasksOutAndOtherPeersGoOn) {
  if (!begin()) GTEST_SKIP() << why_;
  ASSERT_TRUE(works(1));
  PeerOptions others = options_;
  others.port = 0;
  PeerProcess other(others);
  ASSERT_TRUE(other.running());
  const Result<SegmentId> second = engine_->open_segment(other.segment());
  ASSERT_TRUE(second.ok());
  auto source = std::make_unique<Registered>(*engine_, 1 << 20);
  std::atomic<bool> over{false};
  std::atomic<int> moved{0}, failed{0};
  std::thread bystander([&] {
    while (!over.load()) {
      const TransferStatus status =
          transfer(*engine_, {{Opcode::kWrite, source->data(), *second, 0, 1 << 20}});
      ++(status.state == TaskState::kCompleted ? moved : failed);
    }
  });
  ASSERT_NO_FATAL_FAILURE(time_out_while_it_stands_still(kSanitized ? 6'000 : 3'000));
  EXPECT_TRUE(works(2));
  const int before = moved.load();
  EXPECT_TRUE(eventually([&] { return moved.load() > before + 5; }));
  over = true;
  bystander.join();
  EXPECT_EQ(failed.load(), 0);
  source.reset();
  EXPECT_TRUE(operations_.none_vanished(end()));
  EXPECT_GT(operations_.sum().ended, 0u) << "no endpoint was closed under way";
}

TEST_P(FabricPeer, APeerThatDiedWhileIdleIsFoundDeadAndFollowed) {
  if (!begin()) GTEST_SKIP() << why_;
  ASSERT_TRUE(works(1));
  peer_->kill();
  // It fails when the time to look for the peer is over, long before its deadline.
  const Stopwatch watch;
  const TransferStatus lost =
      transfer(*engine_, {{Opcode::kWrite, local_->data(), segment_, 0, 4096}}, within(60'000));
  EXPECT_EQ(lost.state, TaskState::kFailed);
  EXPECT_LT(watch.ms(), 15'000);
  EXPECT_EQ(totals(*engine_).ready, 0u) << "a path to a dead peer is called ready";
  // One that ended by its deadline does not leave a path behind that nobody doubts, either.
  peer_ = std::make_unique<PeerProcess>(options_);
  ASSERT_TRUE(peer_->running());
  EXPECT_TRUE(works(2));
  peer_->kill();
  (void)transfer(*engine_, {{Opcode::kWrite, local_->data(), segment_, 0, 4096}}, within(200));
  peer_ = std::make_unique<PeerProcess>(options_);
  ASSERT_TRUE(peer_->running());
  EXPECT_TRUE(works(3));
}

// NICs with a wire each, in the virtual machine.
class FabricLinks : public Fabric {
 protected:
  static constexpr uint64_t kSize = 8 << 20;
  static constexpr const char* kNear = "10.77.0.1";
  static constexpr const char* kFar = "10.77.0.2";

  bool moves(uint64_t seed, const SubmitOptions& options = {}) {
    fill(local_->data(), kSize, seed);
    return transfer(*initiator_, {request(Opcode::kWrite, 0, kSize)}, options).state ==
               TaskState::kCompleted &&
           std::memcmp(local_->data(), remote_->data(), kSize) == 0;
  }
  uint64_t moved_to_far() {
    uint64_t result = 0;
    for (const PathInfo& path : initiator_->paths()) {
      if (path.remote_device == kFar) result += path.completed_bytes;
    }
    return result;
  }
  bool uses_far() {
    const uint64_t before = moved_to_far();
    return moves(3) && moved_to_far() > before;
  }
  // From the near NIC to `NICs`. The wire is cut, since Soft-RoCE makes no connections any more
  // on a link that was down; what is under way on it ends with its deadline. That is a long one,
  // since verbs looks for an address for two seconds, and does nothing else then.
  void cut_and_mend(const std::string& nics) {
    const Operations operations;
    const Settings mine = {{"fabric_addresses", kNear}}, theirs = {{"fabric_addresses", nics}};
    ASSERT_TRUE(begin(mine, theirs, kSize, "fabric:verbs")) << why_;
    ASSERT_TRUE(eventually([&] { return uses_far(); }));
    ASSERT_EQ(::system("ip link set port1 nomaster"), 0);
    EXPECT_TRUE(eventually(
        [&] {
          const uint64_t before = moved_to_far();
          const bool moved = moves(4, within(4000));
          return moved_to_far() == before && moved == (nics != kFar);
        },
        2 * kPatience))
        << "it is not cut";
    ASSERT_EQ(::system("ip link set port1 master bridge0"), 0);
    EXPECT_TRUE(eventually([&] { return uses_far(); }, 2 * kPatience)) << "it is whole again";
    EXPECT_TRUE(moves(5));
    end();
    EXPECT_TRUE(operations.none_vanished(nics == kFar ? 2 : 3));
  }
};

TEST_F(FabricLinks, TheOnlyWireIsUsedAgainAfterACut) {
  TE_NEEDS_RDMA_VM();
  cut_and_mend(kFar);
}

TEST_F(FabricLinks, OneOfTwoWiresIsUsedAgainAfterACut) {
  TE_NEEDS_RDMA_VM();
  cut_and_mend(std::string(kNear) + "," + kFar);
}

// Last, since it leaves a NIC that Soft-RoCE cannot use.
TEST_F(FabricLinks, WhatOneLinkCannotTheOtherMoves) {
  TE_NEEDS_RDMA_VM();
  const Operations operations;
  ASSERT_TRUE(begin({}, kSize, "fabric:verbs")) << why_;
  for (const char* device : {"rxe0", "rxe1"}) {
    ASSERT_TRUE(eventually([&] {
      const uint64_t before = moved_by_device(*initiator_)[device];
      return moves(2) && moved_by_device(*initiator_)[device] > before;
    })) << device;
  }
  const BatchId batch = submit_new(*initiator_, {request(Opcode::kWrite, 0, kSize)});
  ASSERT_EQ(::system("ip link set eth1 down"), 0);
  ASSERT_TRUE(initiator_->wait(batch, kPatience).ok());
  EXPECT_EQ(initiator_->batch_status(batch)->state, TaskState::kCompleted);
  EXPECT_TRUE(initiator_->free_batch(batch).ok());
  for (uint64_t seed = 10; seed < 15; ++seed) EXPECT_TRUE(moves(seed)) << "on one link";
  ASSERT_EQ(::system("ip link set eth1 up"), 0);
  end();
  EXPECT_TRUE(operations.none_vanished(4));
}

}  // namespace
}  // namespace te::test
