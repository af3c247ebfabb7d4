// Memory of a target that cannot be touched any more, over libfabric's tcp provider, whose target
// side is nobody's to instruct: it drops the answer to a READ, or leaves it in the middle.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>

#include "base/log.h"
#include "engine/fabric.h"
#include "engine/pair.h"
#include "support/fragile_memory.h"
#include "support/peer.h"

namespace te::test {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kZone = 16 << 20;  // good, damaged
constexpr uint64_t kSize = 2 * kZone;
constexpr int kQuickMs = kSanitized ? 5'000 : 1'000;

class FabricMemory : public testing::Test {
 protected:
  // False where libfabric is missing; the test is then skipped.
  bool begin() {
    engine_ = make_fabric_engine(kOneNic, &why_);
    if (!engine_) return false;
    PeerOptions options;
    options.size = kSize;
    options.fragile = true;
    options.transport = "fabric:tcp";
    options.environment["TRANSFER_ENGINE_FABRIC_ADDRESSES"] = kOneNic.at("fabric_addresses");
    peer_.emplace(options);
    EXPECT_TRUE(peer_->running());
    const Result<SegmentId> segment = engine_->open_segment(peer_->segment());
    EXPECT_TRUE(segment.ok()) << segment.status().to_string();
    segment_ = segment.ok() ? *segment : -1;
    own_ = std::make_unique<Registered>(*engine_, kSize);
    return !HasFailure();
  }
  TransferRequest request(Opcode opcode, uint64_t at, uint64_t length) {
    return {opcode, own_->data() + at, segment_, peer_->address() + at, length};
  }
  // Whether what is wanted of the damaged memory fails, and all the rest completes with its bytes.
  void expect_only_these_fail(const std::vector<TransferRequest>& requests, uint64_t seed) {
    const Result<BatchId> batch = engine_->allocate_batch(requests.size());
    ASSERT_TRUE(batch.ok());
    const Stopwatch watch;
    ASSERT_TRUE(engine_->submit(*batch, requests, within(20'000)).ok());
    ASSERT_TRUE(engine_->wait(*batch, std::chrono::seconds(60)).ok());
    EXPECT_LT(watch.ms(), kQuickMs);
    for (size_t i = 0; i < requests.size(); ++i) {
      const TransferRequest& each = requests[i];
      const uint64_t at = each.target_offset - peer_->address();
      const bool bad = at + each.length > kZone;
      const TaskState state = engine_->status(*batch, i)->state;
      const std::string text = engine_->task_error(*batch, i)->status.to_string();
      EXPECT_EQ(state, bad ? TaskState::kFailed : TaskState::kCompleted)
          << i << " at " << at << " of " << each.length << ": " << text;
      if (bad) {
        EXPECT_NE(text.find("the memory of the target"), std::string::npos) << text;
      } else if (each.opcode == Opcode::kRead) {
        EXPECT_EQ(difference(own_->data() + at, each.length, seed, at), kSame) << i << " at " << at;
      }
    }
    EXPECT_TRUE(engine_->free_batch(*batch).ok());
  }

  std::string why_;
  std::unique_ptr<Engine> engine_;
  std::optional<PeerProcess> peer_;
  SegmentId segment_ = -1;
  std::unique_ptr<Registered> own_;
};

TEST_F(FabricMemory, AReadOfTheTargetsLostMemoryFailsAloneAndNeverBringsOtherBytes) {
  if (!begin()) GTEST_SKIP() << why_;
  uint64_t seed = 1;
  for (const Damage damage : {Damage::kProtected, Damage::kUnmapped, Damage::kTruncated}) {
    for (const uint64_t length : {uint64_t{64}, kPage, uint64_t{1} << 20}) {
      for (const uint64_t before : {uint64_t{0}, length / 2, length - 8}) {
        SCOPED_TRACE(fmt::format("{}: {} from {} before", name_of(damage), length, before));
        ++seed;
        ASSERT_EQ(peer_->ask("restore"), "ok");
        ASSERT_EQ(peer_->ask(fmt::format("stamp {}", seed)), "ok");
        stamp(own_->data(), kSize, seed + 1000);
        expect_only_these_fail({request(Opcode::kRead, 0, length)}, seed);
        ASSERT_EQ(peer_->ask(fmt::format("damage {} {} {}", name_of(damage), kZone, kZone)), "ok");
        std::vector<TransferRequest> requests;
        for (uint64_t i = 0; i < 8; ++i) {
          requests.push_back(request(Opcode::kRead, i * length, length));
        }
        requests[3] = request(Opcode::kRead, kZone - before, length);
        stamp(own_->data(), kSize, seed + 1000);
        expect_only_these_fail(requests, seed);
        expect_only_these_fail({request(Opcode::kRead, kZone - before, length)}, seed);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(FabricMemory, AWriteFailsAsSoonAsTheTargetKnows) {
  if (!begin()) GTEST_SKIP() << why_;
  for (const Damage damage : kDamages) {
    for (const uint64_t length : {uint64_t{64}, uint64_t{1} << 20}) {
      SCOPED_TRACE(fmt::format("{}: {}", name_of(damage), length));
      ASSERT_EQ(peer_->ask("restore"), "ok");
      stamp(own_->data(), kSize, length);
      ASSERT_EQ(peer_->ask(fmt::format("damage {} {} {}", name_of(damage), kZone, kZone)), "ok");
      std::vector<TransferRequest> requests;
      for (uint64_t i = 0; i < 8; ++i) {
        requests.push_back(request(Opcode::kWrite, i * length, length));
      }
      requests[3] = request(Opcode::kWrite, kZone - length / 2, length);
      expect_only_these_fail(requests, length);
      ASSERT_EQ(peer_->ask(fmt::format("same {} 0 {}", length, 3 * length)), "same");
      ASSERT_EQ(peer_->ask(fmt::format("same {} {} {}", length, 4 * length, 4 * length)), "same");
      if (HasFailure()) return;
    }
  }
}

TEST_F(FabricMemory, RequestsOfOtherBatchesGoOn) {
  if (!begin()) GTEST_SKIP() << why_;
  constexpr uint64_t kLength = 256 << 10, kSeed = 7;
  ASSERT_EQ(peer_->ask(fmt::format("stamp {}", kSeed)), "ok");
  ASSERT_EQ(peer_->ask(fmt::format("damage protected {} {}", kZone, kZone)), "ok");
  std::atomic<bool> over{false};
  std::atomic<int> completed{0};
  std::thread bystander([&] {
    for (uint64_t at = 0; !over.load(); at = (at + kLength) % (kZone / 2)) {
      const TransferRequest read = request(Opcode::kRead, at, kLength);
      stamp(own_->data() + at, kLength, kSeed + 1);
      EXPECT_EQ(transfer(*engine_, {read}).state, TaskState::kCompleted);
      EXPECT_EQ(difference(own_->data() + at, kLength, kSeed, at), kSame);
      ++completed;
    }
  });
  for (int round = 0; round < 10; ++round) {
    expect_only_these_fail({request(Opcode::kRead, kZone + round * kPage, 100),
                            request(Opcode::kRead, kZone / 2, kPage),
                            request(Opcode::kWrite, kZone + round * kPage, kPage)},
                           kSeed);
  }
  const int before = completed.load();
  EXPECT_TRUE(eventually([&] { return completed.load() > before + 10; }));
  over = true;
  bystander.join();
}

}  // namespace
}  // namespace te::test
