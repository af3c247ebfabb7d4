// Transfers from and to memory of GPUs, and what must not happen meanwhile.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "cuda/pair.h"
#include "support/facts.h"

namespace te::test {
namespace {

using cuda::CuResult;
using Kind = GpuMemory::Kind;

constexpr Opcode kBoth[] = {Opcode::kWrite, Opcode::kRead};

struct Case {
  const char* transport;
  End local, remote;
};

void PrintTo(const Case& one, std::ostream* out) {
  *out << one.transport << " gpu " << one.local.gpu << " to gpu " << one.remote.gpu;
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const char* transport : {"local", "tcp", "shm", "fabric:tcp"}) {
    cases.push_back({transport, {0}, {}});
    cases.push_back({transport, {}, {1}});
    cases.push_back({transport, {0}, {1}});
  }
  cases.push_back({"local", {0}, {0}});
  cases.push_back({"tcp", {0, Kind::kChunks}, {1, Kind::kManaged}});
  return cases;
}

class GpuTransfers : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    fake_cuda::reset();
    const std::string transport = GetParam().transport;
    if (transport != "local") {
      const Status installed = make_engine({}, "")->install_transport(transport);
      if (installed.code() == Code::kUnsupported) GTEST_SKIP() << installed.message();
    }
    made_.emplace(transport, GetParam().local, GetParam().remote);
  }
  void TearDown() override {
    if (!made_) return;
    pair().end_engines();
    EXPECT_EQ(fake_cuda::copies_under_way(), 0);
    EXPECT_EQ(fake_cuda::streams(), 0);
    EXPECT_EQ(fake_cuda::events(), 0);
    EXPECT_EQ(fake_cuda::pinned_ranges(), 0);
    made_.reset();
    for (const int gpu : {0, 1}) EXPECT_EQ(fake_cuda::context_holders(gpu), 0) << gpu;
    fake_cuda::reset();
  }
  GpuPair& pair() { return *made_; }
  static bool is_local() { return std::string(GetParam().transport) == "local"; }
  // The driver copies host memory as it is.
  static bool copies_host_memory() {
    return is_local() || (std::string(GetParam().transport) == "shm" && GetParam().local.gpu < 0);
  }
  // The end whose memory of a GPU is changed; with both, the local one.
  bool local_is_on_gpu() const { return GetParam().local.gpu >= 0; }
  GpuMemory& gpu_memory() { return local_is_on_gpu() ? *pair().local().gpu : *pair().remote().gpu; }

 private:
  std::optional<GpuPair> made_;
};

TEST_P(GpuTransfers, MoveEveryByteInBothDirections) {
  constexpr uint64_t kPart = GpuPair::kPart;
  for (const Opcode opcode : kBoth) {
    for (const uint64_t length :
         {uint64_t{1}, kPart - 1, kPart + 1, 5 * kPart + 777, GpuPair::kSize - 40}) {
      EXPECT_TRUE(pair().moves(opcode, 40, length)) << length;
    }
  }
  EXPECT_GT(fake_cuda::copies(), 0u);
  if (!copies_host_memory()) {
    EXPECT_EQ(fake_cuda::pageable_copies(), 0u) << "staging is not pinned";
  }
}

TEST_P(GpuTransfers, CompleteAfterTheirCopiesDo) {
  fake_cuda::slow_down(3'000, 0);
  for (const Opcode opcode : kBoth) EXPECT_TRUE(pair().moves(opcode, 8, 4 * GpuPair::kPart));
}

TEST_P(GpuTransfers, ALocalCopyTouchesNoContextOfOtherGpus) {
  const int made = fake_cuda::contexts_made(0);
  EXPECT_TRUE(pair().moves(Opcode::kWrite, 0, GpuPair::kSize));
  EXPECT_EQ(fake_cuda::contexts_made(0), made);
}

TEST_P(GpuTransfers, AnErrorOfTheDriverFailsTheRequestAlone) {
  for (const Opcode opcode : kBoth) {
    fake_cuda::fail("cuMemcpyAsync", CuResult::kInvalidValue);
    const Status status = pair().error_of(pair().request(opcode, 0, GpuPair::kSize));
    EXPECT_NE(status.message().find("cuMemcpyAsync failed"), std::string::npos)
        << status.to_string();
    EXPECT_NE(status.message().find("CUDA_ERROR_INVALID_VALUE (1)"), std::string::npos);
    fake_cuda::fail("cuMemcpyAsync", CuResult::kSuccess);
    ASSERT_TRUE(pair().settle());
    EXPECT_TRUE(pair().moves(opcode, 0, GpuPair::kSize)) << "it does not work any more";
  }
}

// The address is another allocation's now, whose bytes are not for the peer.
TEST_P(GpuTransfers, MemoryThatWasFreedAndItsAddressUsedAgainIsNotTouched) {
  ASSERT_TRUE(pair().moves(Opcode::kWrite, 0, GpuPair::kSize));
  gpu_memory().replace();
  std::byte* const other = local_is_on_gpu() ? pair().remote().view() : pair().local().view();
  stamp(gpu_memory().view(), GpuPair::kSize, 71);
  stamp(other, GpuPair::kSize, 72);
  for (const Opcode opcode : kBoth) {
    const Status status = pair().error_of(pair().request(opcode, 0, GpuPair::kSize));
    EXPECT_NE(status.message().find("was freed while it was registered"), std::string::npos)
        << status.to_string();
    EXPECT_NE(status.message().find("unregister memory before it is freed"), std::string::npos);
  }
  EXPECT_EQ(difference(gpu_memory().view(), GpuPair::kSize, 71), kSame);
  EXPECT_EQ(difference(other, GpuPair::kSize, 72), kSame);
}

TEST_P(GpuTransfers, CancelledRequestsEndSoonAndNoCopyTouchesTheMemory) {
  for (const Opcode opcode : kBoth) {
    fake_cuda::slow_down(10'000, 0);
    std::vector<TransferRequest> requests(8, pair().request(opcode, 0, GpuPair::kSize));
    const BatchId batch = submit_new(pair().initiator(), requests);
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_TRUE(pair().initiator().cancel(batch).ok());
    ASSERT_TRUE(pair().initiator().wait(batch, std::chrono::seconds(20)).ok());
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
    ASSERT_TRUE(pair().initiator().free_batch(batch).ok());
    std::byte* const memory = pair().local().view();
    std::memset(memory, 0x5A, GpuPair::kSize);
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    EXPECT_EQ(other_than(memory, GpuPair::kSize, std::byte{0x5A}), kSame)
        << "a copy came after the end";
    fake_cuda::slow_down(0, 0);
    ASSERT_TRUE(pair().settle());
    EXPECT_TRUE(pair().moves(opcode, 0, GpuPair::kSize));
  }
}

TEST_P(GpuTransfers, DeadlinesHold) {
  fake_cuda::slow_down(20'000, 0);
  std::vector<TransferRequest> requests(12, pair().request(Opcode::kRead, 0, GpuPair::kSize));
  const auto begin = std::chrono::steady_clock::now();
  const BatchId batch = submit_new(pair().initiator(), requests, within(150));
  ASSERT_TRUE(pair().initiator().wait(batch, std::chrono::seconds(20)).ok());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
  EXPECT_EQ(pair().initiator().batch_status(batch)->state, TaskState::kTimeout);
  ASSERT_TRUE(pair().initiator().free_batch(batch).ok());
}

INSTANTIATE_TEST_SUITE_P(Ways, GpuTransfers, testing::ValuesIn(all_cases()), [](const auto& each) {
  const auto name = [](const End& end) {
    if (end.gpu < 0) return std::string("host");
    const std::string kind = end.kind == Kind::kWhole    ? ""
                             : end.kind == Kind::kChunks ? "chunks"
                                                         : "managed";
    return "gpu" + std::to_string(end.gpu) + kind;
  };
  std::string all = each.param.transport;
  std::replace(all.begin(), all.end(), ':', '_');
  return all + "_" + name(each.param.local) + "_" + name(each.param.remote);
});

// If copies and sends took turns, it would take twice the time. On a busy machine some looks show
// more than the copies, and none shows less.
TEST(GpuStaging, CopiesOverlapAtBothEndsAndInBothDirections) {
  constexpr int kLooks = 8;
  constexpr uint64_t kParts = GpuPair::kSize / GpuPair::kPart;
  constexpr int64_t kCopyUs = 12'000;
  constexpr std::chrono::microseconds kSlower(kParts * kCopyUs);
  GpuPair pair("tcp", {0}, {1});
  for (const Opcode opcode : kBoth) {
    ASSERT_TRUE(pair.moves(opcode, 0, GpuPair::kSize));
    fake_cuda::slow_down(kCopyUs, 0);
    const TransferRequest request = pair.request(opcode, 0, GpuPair::kSize);
    auto least = std::chrono::steady_clock::duration::max();
    for (int look = 0; look < kLooks && least > kSlower * 115 / 100; ++look) {
      const auto begin = std::chrono::steady_clock::now();
      ASSERT_EQ(transfer(pair.initiator(), {request}).state, TaskState::kCompleted);
      least = std::min(least, std::chrono::steady_clock::now() - begin);
    }
    fake_cuda::slow_down(0, 0);
    EXPECT_GE(least, kSlower);
    if (kSanitized) continue;  // they make the engine's own work slow
    EXPECT_LE(least, kSlower * 115 / 100)
        << std::chrono::duration_cast<std::chrono::milliseconds>(least).count() << " ms";
  }
}

TEST(GpuStaging, GpusCopyBesideEachOther) {
  fake_cuda::reset();
  GpuPair pair("tcp", {0}, {});
  const GpuMemory second(1, GpuPair::kSize);
  ASSERT_TRUE(pair.initiator().register_memory(second.data(), second.size(), "*").ok());
  fake_cuda::slow_down(5'000, 0);
  std::vector<TransferRequest> requests;
  for (std::byte* const from : {pair.local().data(), second.data()}) {
    TransferRequest request = pair.request(Opcode::kWrite, 0, GpuPair::kSize / 2);
    request.source = from;
    request.target_offset += requests.size() * GpuPair::kSize / 2;
    requests.push_back(request);
  }
  EXPECT_EQ(transfer(pair.initiator(), requests).state, TaskState::kCompleted);
  EXPECT_EQ(fake_cuda::most_busy_streams(), 2);
  fake_cuda::reset();
  ASSERT_TRUE(pair.initiator().unregister_memory(second.data()).ok());
}

// The staging memory stays, though the GPU that pinned it is not used any more.
TEST(GpuStaging, PinnedMemoryOutlivesTheGpuThatPinnedIt) {
  GpuPair pair("tcp", {0}, {});
  ASSERT_TRUE(pair.moves(Opcode::kWrite, 0, GpuPair::kSize));
  EXPECT_GT(fake_cuda::pinned_ranges(), 0);
  const GpuMemory second(1, GpuPair::kSize);
  ASSERT_TRUE(pair.initiator().register_memory(second.data(), second.size(), "*").ok());
  ASSERT_TRUE(pair.initiator().unregister_memory(pair.local().data()).ok());
  EXPECT_EQ(fake_cuda::context_holders(0), 1) << "staging memory holds it";
  EXPECT_EQ(fake_cuda::pinned_ranges(), 0);
  fake_cuda::reset();
  TransferRequest request = pair.request(Opcode::kWrite, 0, GpuPair::kSize);
  request.source = second.data();
  stamp(second.view(), second.size(), 4);
  EXPECT_EQ(transfer(pair.initiator(), {request}).state, TaskState::kCompleted);
  EXPECT_EQ(difference(pair.remote().view(), GpuPair::kSize, 4), kSame);
  EXPECT_EQ(fake_cuda::pageable_copies(), 0u);
  ASSERT_TRUE(pair.initiator().unregister_memory(second.data()).ok());
}

TEST(GpuStaging, WorksWhereHostMemoryCannotBePinned) {
  fake_cuda::reset();
  fake_cuda::fail("cuMemHostRegister", CuResult::kOutOfMemory);
  {
    GpuPair pair("tcp", {0}, {1});
    for (const Opcode opcode : kBoth) EXPECT_TRUE(pair.moves(opcode, 0, GpuPair::kSize));
    EXPECT_GT(fake_cuda::pageable_copies(), 0u);
  }
  fake_cuda::reset();
}

TEST(GpuLocal, InaccessibleHostMemoryFailsTheRequest) {
  fake_cuda::reset();
  GpuPair pair("local", {0}, {});
  std::byte* const host = static_cast<std::byte*>(
      ::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_TRUE(pair.initiator().register_memory(host, 1 << 20, "*").ok());
  ASSERT_EQ(::mprotect(host, 1 << 20, PROT_NONE), 0);
  TransferRequest request = pair.request(Opcode::kWrite, 0, 1 << 20);
  request.target_offset = reinterpret_cast<uint64_t>(host);
  EXPECT_TRUE(fails_with(pair.error_of(request), Code::kPermission, "cannot be written"));
  EXPECT_EQ(fake_cuda::copies(), 0u);
  EXPECT_TRUE(pair.moves(Opcode::kWrite, 0, GpuPair::kSize));
  ASSERT_TRUE(pair.initiator().unregister_memory(host).ok());
  ::munmap(host, 1 << 20);
}

TEST(GpuLocal, ListsMoveMemoryOfGpus) {
  for (const auto& [local, remote] :
       {std::pair{End{0}, End{}}, {End{}, End{1}}, {End{0}, End{1}}}) {
    GpuPair pair("local", local, remote);
    for (const Opcode opcode : kBoth) EXPECT_TRUE(pair.moves_list(opcode));
  }
}

TEST(GpuStaging, ListsMoveMemoryOfGpus) {
  for (const char* transport : {"tcp", "shm"}) {
    for (const auto& [local, remote] :
         {std::pair{End{0}, End{}}, {End{}, End{1}}, {End{0}, End{1}}}) {
      GpuPair pair(transport, local, remote);
      for (const Opcode opcode : kBoth) EXPECT_TRUE(pair.moves_list(opcode));
    }
  }
}

TEST(GpuLocal, OverlappingRangesOfAGpuAreAnError) {
  GpuPair pair("local", {0}, {});
  TransferRequest request = pair.request(Opcode::kWrite, 0, 4096);
  request.target_offset = reinterpret_cast<uint64_t>(pair.local().data() + 100);
  EXPECT_TRUE(fails_with(pair.error_of(request), Code::kInvalidArgument, "overlap"));
}

}  // namespace
}  // namespace te::test
