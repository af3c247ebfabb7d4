// Many small requests that are staged share parts: what they cost is counted.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "cuda/pair.h"

namespace te::test {
namespace {

constexpr uint64_t kPart = GpuPair::kPart;
constexpr uint64_t kSize = GpuPair::kSize;
constexpr uint64_t kEach = 64;
constexpr uint64_t kParts = kSize / kPart;

struct Ends {
  End local, remote;
};

class SmallRequests : public testing::TestWithParam<Ends> {
 protected:
  void SetUp() override {
    fake_cuda::reset();
    made_.emplace("tcp", GetParam().local, GetParam().remote);
  }
  void TearDown() override {
    made_.reset();
    fake_cuda::reset();
  }
  GpuPair& pair() { return *made_; }
  uint64_t gpus() const {
    return (GetParam().local.gpu >= 0 ? 1u : 0u) + (GetParam().remote.gpu >= 0 ? 1u : 0u);
  }
  std::vector<TransferRequest> requests(Opcode opcode, uint64_t stride) {
    std::vector<TransferRequest> all;
    for (uint64_t at = 0; at < kSize; at += stride) {
      all.push_back(pair().request(opcode, at, kEach));
    }
    return all;
  }
  // Fills both memories. What there is to be after every second range was moved, of the first ones,
  // but for one.
  std::vector<std::byte> every_second(Opcode opcode, uint64_t ranges, uint64_t but = UINT64_MAX) {
    stamp(from(opcode), kSize, 1);
    std::memset(to(opcode), 0xEE, kSize);
    std::vector<std::byte> expected(kSize, std::byte{0xEE});
    for (uint64_t i = 0; i < ranges; ++i) {
      const uint64_t at = 2 * i * kEach;
      if (i != but) std::memcpy(expected.data() + at, from(opcode) + at, kEach);
    }
    return expected;
  }
  std::byte* from(Opcode opcode) {
    return opcode == Opcode::kWrite ? pair().local().view() : pair().remote().view();
  }
  std::byte* to(Opcode opcode) {
    return opcode == Opcode::kWrite ? pair().remote().view() : pair().local().view();
  }

 private:
  std::optional<GpuPair> made_;
};

TEST_P(SmallRequests, ThoseThatAdjoinAreCopiedAsOne) {
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    fake_cuda::reset();
    stamp(from(opcode), kSize, 1);
    stamp(to(opcode), kSize, 2);
    const TransferStatus end = transfer(pair().initiator(), requests(opcode, kEach));
    EXPECT_EQ(end.state, TaskState::kCompleted);
    EXPECT_EQ(end.transferred_bytes, kSize);
    EXPECT_EQ(difference(to(opcode), kSize, 1), kSame);
    EXPECT_EQ(fake_cuda::copies(), gpus() * kParts);
    EXPECT_EQ(fake_cuda::copied_bytes(), gpus() * kSize);
  }
}

TEST_P(SmallRequests, ThoseThatDoNotAreCopiedTogether) {
  constexpr uint64_t kStride = 2 * kEach;
  constexpr uint64_t kRequests = kSize / kStride, kRangesOfAPart = 1024;
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    fake_cuda::reset();
    const std::vector<std::byte> expected = every_second(opcode, kRequests);
    EXPECT_EQ(transfer(pair().initiator(), requests(opcode, kStride)).state, TaskState::kCompleted);
    EXPECT_EQ(std::memcmp(to(opcode), expected.data(), kSize), 0);
    EXPECT_EQ(fake_cuda::copies(), gpus() * kRequests);
    EXPECT_EQ(fake_cuda::calls("cuEventRecord"), gpus() * kRequests / kRangesOfAPart)
        << "one for the copies of each part";
  }
}

// Its neighbours share parts with it.
TEST_P(SmallRequests, OneThatFailsFailsAlone) {
  constexpr uint64_t kBad = 333, kRequests = 1'000;
  const bool local = GetParam().local.gpu >= 0;
  GpuMemory other(0, kSize);
  Engine& owner = local ? pair().initiator() : pair().target();
  ASSERT_TRUE(owner.register_memory(other.data(), kSize, "*").ok());
  ASSERT_TRUE(pair().initiator().sync_segment_cache().ok());
  other.replace();  // so no copy of it is made
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    const std::vector<std::byte> expected = every_second(opcode, kRequests, kBad);
    std::vector<TransferRequest> requests;
    for (uint64_t i = 0; i < kRequests; ++i) {
      requests.push_back(pair().request(opcode, 2 * i * kEach, kEach));
    }
    if (local) {
      requests[kBad].source = other.data();
    } else {
      requests[kBad].target_offset = reinterpret_cast<uint64_t>(other.data());
    }
    const BatchId batch = submit_new(pair().initiator(), requests);
    ASSERT_TRUE(pair().initiator().wait(batch, std::chrono::seconds(20)).ok());
    for (uint64_t i = 0; i < kRequests; ++i) {
      const TransferStatus status = *pair().initiator().status(batch, i);
      EXPECT_EQ(status.state, i == kBad ? TaskState::kFailed : TaskState::kCompleted) << i;
      EXPECT_EQ(status.transferred_bytes, i == kBad ? 0 : kEach) << i;
    }
    const Status why = pair().initiator().task_error(batch, kBad)->status;
    EXPECT_NE(why.message().find("was freed while it was registered"), std::string::npos)
        << why.to_string();
    EXPECT_TRUE(pair().initiator().free_batch(batch).ok());
    EXPECT_EQ(std::memcmp(to(opcode), expected.data(), kSize), 0);
  }
  ASSERT_TRUE(owner.unregister_memory(other.data()).ok());
}

TEST_P(SmallRequests, ListsShareParts) {
  constexpr uint64_t kStride = 2 * kEach, kRanges = kSize / kStride;
  const auto here = reinterpret_cast<uint64_t>(pair().local().data());
  const auto there = reinterpret_cast<uint64_t>(pair().remote().data());
  std::vector<uint64_t> sources, targets;
  const std::vector<uint64_t> lengths(kRanges, kEach);
  for (uint64_t at = 0; at < kSize; at += kStride) {
    sources.push_back(here + at);
    targets.push_back(there + at);
  }
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    fake_cuda::reset();
    const std::vector<std::byte> expected = every_second(opcode, kRanges);
    const BatchId batch = *pair().initiator().allocate_batch(1);
    ASSERT_TRUE(
        pair()
            .initiator()
            .submit_list(batch, AddressList{opcode, pair().segment, sources, targets, lengths})
            .ok());
    ASSERT_TRUE(pair().initiator().wait(batch, std::chrono::seconds(20)).ok());
    const TransferStatus end = *pair().initiator().status(batch, 0);
    EXPECT_EQ(end.state, TaskState::kCompleted);
    EXPECT_EQ(end.transferred_bytes, kRanges * kEach);
    EXPECT_TRUE(pair().initiator().free_batch(batch).ok());
    EXPECT_EQ(std::memcmp(to(opcode), expected.data(), kSize), 0);
    EXPECT_LE(fake_cuda::calls("cuEventRecord"), gpus() * kRanges / 1024);
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, SmallRequests,
                         testing::Values(Ends{{0}, {}}, Ends{{}, {1}}, Ends{{0}, {1}}),
                         [](const auto& each) {
                           const auto name = [](const End& end) {
                             return end.gpu < 0 ? "host" : "gpu" + std::to_string(end.gpu);
                           };
                           return name(each.param.local) + "_" + name(each.param.remote);
                         });

TEST(StagedLists, ATargetThatIsGoneFailsThemInTheirTime) {
  fake_cuda::reset();
  GpuPair pair("tcp", {0}, {1}, {{"retry_window_ms", "200"}});
  ASSERT_TRUE(pair.moves_list(Opcode::kWrite));
  pair.end_target();
  const uint64_t source = reinterpret_cast<uint64_t>(pair.local().data());
  const uint64_t target = reinterpret_cast<uint64_t>(pair.remote().data());
  const uint64_t length = kSize;
  const BatchId batch = *pair.initiator().allocate_batch(1);
  ASSERT_TRUE(
      pair.initiator()
          .submit_list(
              batch,
              AddressList{Opcode::kRead, pair.segment, {&source, 1}, {&target, 1}, {&length, 1}},
              within(10'000))
          .ok());
  ASSERT_TRUE(pair.initiator().wait(batch, std::chrono::seconds(20)).ok());
  EXPECT_EQ(pair.initiator().batch_status(batch)->state, TaskState::kFailed);
  EXPECT_TRUE(pair.initiator().free_batch(batch).ok());
}

TEST(StagedLists, ATargetThatRestartedIsFoundAgain) {
  fake_cuda::reset();
  GpuPair pair("tcp", {0}, {1});
  ASSERT_TRUE(pair.moves_list(Opcode::kWrite));
  ASSERT_NO_FATAL_FAILURE(pair.restart_target());
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    EXPECT_TRUE(pair.moves_list(opcode));
  }
}

}  // namespace
}  // namespace te::test
