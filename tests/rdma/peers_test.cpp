// Peers that die and come back, and more of them than there may be endpoints.
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>

#include "engine/loaded_peer.h"
#include "rdma/pair.h"
#include "support/servers.h"

namespace te::test {
namespace {

constexpr Load kLoad{.threads = 3, .part = 512 << 10, .requests = 8};

class RdmaPeer : public testing::Test, protected LoadedPeer {
 protected:
  RdmaPeer() : LoadedPeer(kLoad) {}

  void begin() {
    PeerOptions options;
    options.transport = "rdma";
    options.port = free_port();
    options.environment["TE_NICS"] = kTargetNics;
    ASSERT_NO_FATAL_FAILURE(start_peer(options));
    open(make_rdma_engine({{"nics", kInitiatorNics}}, {"rdma"}));
  }
};

TEST_F(RdmaPeer, KilledAndRestartedTwentyTimesUnderLoadItLeavesNothingBehind) {
  TE_NEEDS_RDMA_VM();
  begin();
  // All rails: how many a load connects depends on what waits while the first one connects.
  const Status warm = engine_->warmup_segment(peer_->segment());
  ASSERT_TRUE(warm.ok()) << warm.to_string();
  ASSERT_TRUE(works(1));
  const int pairs = rdma_resources("qp", "rxe[01]"), ranges = rdma_resources("mr", "rxe[01]");
  ASSERT_GT(pairs, 0);
  ASSERT_GT(ranges, 0);
  for (uint64_t time = 0; time < 20; ++time) {
    start_load();
    EXPECT_TRUE(eventually([&] { return completed_.load() > 3 || ended_.load() > 0; }));
    ASSERT_NO_FATAL_FAILURE(replace_peer());
    ASSERT_TRUE(works(10 + time)) << "time " << time << ", on the same segment id";
  }
  EXPECT_TRUE(eventually([&] { return rdma_resources("qp", "rxe[01]") <= pairs; }))
      << rdma_resources("qp", "rxe[01]") << " queue pairs after " << pairs;
  EXPECT_EQ(rdma_resources("mr", "rxe[01]"), ranges);
}

TEST_F(RdmaPeer, WhatADeadInitiatorLeftGoesAway) {
  TE_NEEDS_RDMA_VM();
  const std::unique_ptr<Engine> target = make_rdma_engine({{"nics", kTargetNics}}, {"rdma"});
  Registered memory(*target, 4 << 20);
  const int pairs = rdma_resources("qp", "rxe[23]");
  const pid_t mover = start_mover(
      {.segment = target->local_endpoint(), .size = 4 << 20, .more = {"--transport", "rdma"}});
  ASSERT_GT(mover, 0);
  EXPECT_TRUE(eventually([&] { return rdma_resources("qp", "rxe[23]") > pairs; }));
  ::kill(mover, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(mover, &status, 0), mover);
  ASSERT_TRUE(WIFSIGNALED(status)) << "it was to be under load, not ended";
  EXPECT_TRUE(eventually([&] { return rdma_resources("qp", "rxe[23]") == pairs; }))
      << rdma_resources("qp", "rxe[23]") << " queue pairs";
}

TEST_F(RdmaPeer, MemoryThatIsGoneIsRefusedAndTheRestStillMoves) {
  TE_NEEDS_RDMA_VM();
  begin();
  ASSERT_TRUE(works(1));
  for (uint64_t round = 0; round < 3; ++round) {
    ASSERT_EQ(peer_->ask("unregister"), "ok");
    const BatchId batch = *engine_->allocate_batch(1);
    const TransferRequest request{Opcode::kWrite, local_->data(), segment_, 0, kLoad.part};
    if (engine_->submit(batch, {&request, 1}).ok()) {
      EXPECT_TRUE(engine_->wait(batch, kPatience).ok());
      EXPECT_EQ(engine_->batch_status(batch)->state, TaskState::kFailed);
    }
    EXPECT_TRUE(engine_->free_batch(batch).ok());
    ASSERT_EQ(peer_->ask("register"), "ok");
    EXPECT_TRUE(engine_->sync_segment_cache().ok());
    ASSERT_TRUE(works(2 + round));
  }
}

// 64 peers, two NICs here and two of each peer, and 32 endpoints.
TEST(RdmaManyPeers, AllMakeProgressUnderACapOnEndpoints) {
  TE_NEEDS_RDMA_VM();
  constexpr size_t kPeers = 64;
  constexpr uint64_t kBytes = 128 << 10;
  constexpr int kCap = 32;
  // 65 engines in one process have some thousands; root may raise the hard limit, too.
  const rlimit descriptors{1 << 16, 1 << 16};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &descriptors), 0);
  const std::unique_ptr<Engine> engine = make_rdma_engine(
      {{"nics", kInitiatorNics}, {"rdma_endpoints", std::to_string(kCap)}}, {"rdma"});
  Registered local(*engine, kPeers * kBytes);
  const int own = rdma_resources("qp", "rxe[01]");
  struct Target {
    std::unique_ptr<Engine> engine;
    std::unique_ptr<Registered> memory;
    SegmentId segment = -1;
  };
  std::vector<Target> targets(kPeers);
  const auto set_up = [&](size_t first, size_t end) {
    for (size_t i = first; i < end; ++i) {
      Target& target = targets[i];
      target.engine = make_rdma_engine({{"nics", kTargetNics}, {"tcp_threads", "1"}}, {"rdma"});
      target.memory = std::make_unique<Registered>(*target.engine, kBytes);
      const Result<SegmentId> id = engine->open_segment(target.engine->local_endpoint());
      EXPECT_TRUE(id.ok()) << id.status().to_string();
      target.segment = id.ok() ? *id : -1;
    }
  };
  std::thread half([&] { set_up(0, kPeers / 2); });
  set_up(kPeers / 2, kPeers);
  half.join();
  std::atomic<bool> over{false};
  std::atomic<int> most{0};
  std::thread watch([&] {
    while (!over.load()) {
      // A list is not made at one moment: one that gives way and its successor may both be in it.
      const int now =
          std::min(rdma_resources("qp", "rxe[01]"), rdma_resources("qp", "rxe[01]")) - own;
      if (now > most.load()) most = now;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  });
  for (uint64_t round = 0; round < 3; ++round) {
    stamp(local.data(), local.size(), round);
    std::vector<BatchId> batches;
    for (size_t i = 0; i < kPeers; ++i) {
      std::vector<TransferRequest> requests;
      for (uint64_t at = 0; at < kBytes; at += kBytes / 4) {
        requests.push_back({Opcode::kWrite, local.data() + i * kBytes + at, targets[i].segment,
                            reinterpret_cast<uint64_t>(targets[i].memory->data()) + at,
                            kBytes / 4});
      }
      batches.push_back(*engine->allocate_batch(requests.size()));
      ASSERT_TRUE(engine->submit(batches.back(), requests, {}).ok());
    }
    for (size_t i = 0; i < kPeers; ++i) {
      EXPECT_TRUE(engine->wait(batches[i], kPatience).ok());
      EXPECT_EQ(engine->batch_status(batches[i])->state, TaskState::kCompleted) << "peer " << i;
      EXPECT_TRUE(engine->free_batch(batches[i]).ok());
      ASSERT_EQ(std::memcmp(targets[i].memory->data(), local.data() + i * kBytes, kBytes), 0)
          << "peer " << i;
    }
  }
  over = true;
  watch.join();
  EXPECT_GT(most.load(), 0);
  EXPECT_LE(most.load(), kCap);
}

}  // namespace
}  // namespace te::test
