// Memory of GPUs over NICs: imported by them as a dmabuf, or staged. There are neither GPUs nor
// NICs. Where more than one NIC is used, they are equally far from GPUs 0 and 1.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "cuda/pair.h"
#include "support/facts.h"
#include "support/fake_verbs.h"
#include "support/log_lines.h"

namespace te::test {
namespace {

using cuda::CuResult;
using Kind = GpuMemory::Kind;

struct Ends {
  const char* title;
  End local, remote;
  uint64_t exports;  // of the buffers
};

void PrintTo(const Ends& ends, std::ostream* out) { *out << ends.title; }

fake_verbs::DevicePage page_at(uint64_t address) {
  cuda::PointerAttribute attribute = cuda::PointerAttribute::kBufferId;
  unsigned long long id = 0;
  void* data = &id;
  EXPECT_EQ(cuPointerGetAttributes(1, &attribute, &data, address), CuResult::kSuccess);
  auto* view = fake_cuda::view(reinterpret_cast<void*>(address));
  return {reinterpret_cast<char*>(view), id};
}

std::map<std::string, std::string> with(const char* nics) {
  return {{"rdma_library", TE_FAKE_VERBS}, {"nics", nics}};
}

class FakeNicsGpu : public testing::TestWithParam<Ends> {
 protected:
  static void SetUpTestSuite() { ASSERT_EQ(::setenv("HWLOC_XMLFILE", TE_MACHINE, 1), 0); }
  void SetUp() override {
    fake_verbs::reset();
    fake_cuda::reset();
  }
  void TearDown() override {
    for (int device = 0; device < fake_verbs::kDevices; ++device) {
      EXPECT_EQ(fake_verbs::registered(device), 0) << "of mlx5_" << device;
    }
    for (const int gpu : {0, 1}) EXPECT_EQ(fake_cuda::context_holders(gpu), 0) << gpu;
    fake_verbs::reset();
    fake_cuda::reset();
  }
};

TEST_P(FakeNicsGpu, NicsMoveTheBytesThemselves) {
  GpuPair pair("rdma", GetParam().local, GetParam().remote, with("mlx5_4,mlx5_5"),
               with("mlx5_4,mlx5_5"));
  EXPECT_TRUE(pair.moves_all());
  EXPECT_EQ(fake_cuda::copies(), 0u) << "it was staged";
  EXPECT_EQ(pair.staged_bytes(), 0u);
  EXPECT_EQ(fake_cuda::exports(), GetParam().exports) << "not once for all NICs";
  for (const int device : {4, 5}) {
    EXPECT_EQ(fake_verbs::registrations(device, pair.local().data()), 1);
    EXPECT_EQ(fake_verbs::registrations(device, pair.remote().data()), 1);
  }
}

TEST_P(FakeNicsGpu, MemoryThatTheDriverDoesNotExportIsStaged) {
  fake_cuda::fail("cuMemGetHandleForAddressRange", CuResult::kNotSupported);
  GpuPair pair("rdma", GetParam().local, GetParam().remote, with("mlx5_0"), with("mlx5_4"));
  EXPECT_TRUE(pair.moves_all());
  EXPECT_GT(fake_cuda::copies(), 0u);
  EXPECT_EQ(fake_cuda::exports(), 0u);
  EXPECT_GE(pair.staged_bytes(), GpuPair::kSize);
}

TEST_P(FakeNicsGpu, NicsThatDoNotImportItAreLeftToOthers) {
  fake_verbs::refuse_dmabufs(4, EOPNOTSUPP);
  GpuPair pair("rdma", GetParam().local, GetParam().remote, with("mlx5_4,mlx5_5"),
               with("mlx5_4,mlx5_5"));
  EXPECT_TRUE(pair.moves_all());
  EXPECT_EQ(fake_cuda::copies(), 0u) << "it was staged, though a NIC imports it";
}

TEST_P(FakeNicsGpu, WhatNoNicImportsIsStaged) {
  for (const int device : {0, 4}) fake_verbs::refuse_dmabufs(device, EOPNOTSUPP);
  GpuPair pair("rdma", GetParam().local, GetParam().remote, with("mlx5_0"), with("mlx5_4"));
  EXPECT_TRUE(pair.moves_all());
  EXPECT_GT(fake_cuda::copies(), 0u);
}

TEST_P(FakeNicsGpu, WhatTheDriverDoesNotExportIsReachedByPeermem) {
  fake_cuda::fail("cuMemGetHandleForAddressRange", CuResult::kNotSupported);
  fake_verbs::load_peermem(page_at);
  GpuPair pair("rdma", GetParam().local, GetParam().remote, with("mlx5_4,mlx5_5"),
               with("mlx5_4,mlx5_5"));
  EXPECT_TRUE(pair.moves_all());
  EXPECT_EQ(fake_cuda::copies(), 0u) << "it was staged";
  for (const int device : {4, 5}) {
    EXPECT_EQ(fake_verbs::peermem_registrations(device), static_cast<int>(GetParam().exports));
  }
}

TEST_P(FakeNicsGpu, WhatANicDoesNotImportIsReachedByPeermem) {
  fake_verbs::refuse_dmabufs(4, EOPNOTSUPP);
  fake_verbs::load_peermem(page_at);
  GpuPair pair("rdma", GetParam().local, GetParam().remote, with("mlx5_4,mlx5_5"),
               with("mlx5_4,mlx5_5"));
  EXPECT_TRUE(pair.moves_all());
  EXPECT_EQ(fake_cuda::copies(), 0u) << "it was staged";
  EXPECT_EQ(fake_verbs::peermem_registrations(4), static_cast<int>(GetParam().exports));
  EXPECT_EQ(fake_verbs::peermem_registrations(5), 0) << "though it imports a dmabuf";
}

// The NIC still has requests under way when the target ends.
TEST_P(FakeNicsGpu, RequestsEndWhenTheTargetIsLostAndWorkWhenItIsBack) {
  GpuPair pair("rdma", GetParam().local, GetParam().remote, with("mlx5_0"), with("mlx5_4"));
  ASSERT_TRUE(pair.moves(Opcode::kWrite, 0, 4096));
  fake_verbs::delay(0);
  std::vector<TransferRequest> requests;
  for (uint64_t i = 0; i < 16; ++i) {
    requests.push_back(pair.request(i % 2 == 0 ? Opcode::kWrite : Opcode::kRead, i << 18, 1 << 18));
  }
  const BatchId batch = submit_new(pair.initiator(), requests, within(10'000));
  ASSERT_TRUE(eventually([] { return fake_verbs::held(0) > 0; }));
  pair.end_target();
  fake_verbs::let_go(0);  // and so the NIC notices that nobody answers
  ASSERT_TRUE(pair.initiator().wait(batch, std::chrono::seconds(20)).ok());
  EXPECT_EQ(pair.initiator().batch_status(batch)->state, TaskState::kFailed);
  ASSERT_TRUE(pair.initiator().free_batch(batch).ok());
  EXPECT_EQ(fake_verbs::held(0), 0) << "the NIC may still touch the memory";
  std::memset(pair.local().view(), 0x5A, GpuPair::kSize);
  std::memset(pair.remote().view(), 0x5A, GpuPair::kSize);
  ASSERT_NO_FATAL_FAILURE(pair.restart_target());
  EXPECT_EQ(other_than(pair.local().view(), GpuPair::kSize, std::byte{0x5A}), kSame);
  EXPECT_EQ(other_than(pair.remote().view(), GpuPair::kSize, std::byte{0x5A}), kSame);
  EXPECT_TRUE(pair.moves_all());
  EXPECT_EQ(fake_verbs::late_landings(), 0);
  EXPECT_EQ(fake_cuda::copies(), 0u) << "it was staged";
}

INSTANTIATE_TEST_SUITE_P(
    Memory, FakeNicsGpu,
    testing::Values(Ends{"from_gpu", {0}, {}, 1}, Ends{"to_gpu", {}, {1}, 1},
                    Ends{"between_gpus", {0}, {1}, 2},
                    Ends{"between_chunks", {0, Kind::kChunks}, {1, Kind::kChunks}, 2}),
    [](const auto& each) { return std::string(each.param.title); });

TEST_F(FakeNicsGpu, WhatTimedOutOrWasCancelledDoesNotLandAfterTheNext) {
  GpuPair pair("rdma", {0}, {1}, with("mlx5_0"), with("mlx5_4"));
  ASSERT_TRUE(pair.moves(Opcode::kWrite, 0, 4096));
  for (const bool cancelled : {false, true}) {
    fake_verbs::delay(0);
    std::memset(pair.local().view(), 0x33, GpuPair::kSize);
    const BatchId batch =
        submit_new(pair.initiator(), {pair.request(Opcode::kWrite, 0, GpuPair::kSize)},
                   within(cancelled ? 10'000 : 300));
    ASSERT_TRUE(eventually([] { return fake_verbs::held(0) > 0; }));
    if (cancelled) {
      ASSERT_TRUE(pair.initiator().cancel(batch).ok());
    }
    ASSERT_TRUE(pair.initiator().wait(batch, std::chrono::seconds(5)).ok());
    EXPECT_EQ(pair.initiator().batch_status(batch)->state,
              cancelled ? TaskState::kCancelled : TaskState::kTimeout);
    ASSERT_TRUE(pair.initiator().free_batch(batch).ok());
    fake_verbs::let_go(0);
    EXPECT_TRUE(pair.moves(Opcode::kWrite, 0, GpuPair::kSize));
    EXPECT_EQ(fake_verbs::late_landings(), 0);
  }
  EXPECT_EQ(fake_cuda::copies(), 0u) << "it was staged";
}

// The warning names both ways, once, though there are two buffers.
TEST_F(FakeNicsGpu, AWarningSaysOfEachNicWhyMemoryIsStaged) {
  fake_verbs::refuse_dmabufs(0, EOPNOTSUPP);
  LogLines lines;
  GpuPair pair("rdma", {1}, {}, with("mlx5_0"), with("mlx5_4"));
  const GpuMemory other(1, 1 << 20);
  ASSERT_TRUE(pair.initiator().register_memory(other.data(), 1 << 20, "*").ok());
  EXPECT_EQ(lines.with({"mlx5_0 does not reach memory of cuda:1", "Operation not supported",
                        "nvidia-peermem: Bad address"}),
            1);
  ASSERT_TRUE(pair.initiator().unregister_memory(other.data()).ok());
}

// The kernel revokes what peermem registered, and so a peer does not reach what is there now.
TEST_F(FakeNicsGpu, PeermemLetsGoOfFreedMemory) {
  fake_cuda::fail("cuMemGetHandleForAddressRange", CuResult::kNotSupported);
  fake_verbs::load_peermem(page_at);
  GpuPair pair("rdma", {}, {1}, with("mlx5_0"), with("mlx5_4"));
  EXPECT_TRUE(pair.moves(Opcode::kWrite, 0, 4096));
  pair.remote().gpu->replace();
  std::memset(pair.remote().view(), 0x33, GpuPair::kSize);
  const Status why = pair.error_of(pair.request(Opcode::kWrite, 0, 4096));
  EXPECT_TRUE(fails_with(why, Code::kStale, "remote access error"));
  EXPECT_EQ(other_than(pair.remote().view(), GpuPair::kSize, std::byte{0x33}), kSame);
}

TEST_F(FakeNicsGpu, ManagedMemoryIsNeverGivenToANic) {
  fake_verbs::load_peermem(page_at);
  GpuPair pair("rdma", {0, Kind::kManaged}, {1, Kind::kManaged}, with("mlx5_0"), with("mlx5_4"));
  EXPECT_TRUE(pair.moves_all());
  EXPECT_EQ(fake_cuda::exports(), 0u);
  EXPECT_EQ(fake_verbs::registrations(0, pair.local().data()), 0);
}

TEST_F(FakeNicsGpu, ATensorAtAnOddPlaceInItsAllocation) {
  GpuPair pair("rdma", {}, {1}, with("mlx5_0"), with("mlx5_4"));
  const GpuMemory allocation(0, 1 << 20);
  std::byte* const tensor = allocation.data() + 12'345;
  constexpr size_t kLength = 100'001;
  ASSERT_TRUE(pair.initiator().register_memory(tensor, kLength, "*").ok());
  stamp(allocation.view() + 12'345, kLength, 5);
  const TransferRequest write{Opcode::kWrite, tensor, pair.segment, 0, kLength};
  EXPECT_EQ(transfer(pair.initiator(), {write}).state, TaskState::kCompleted);
  EXPECT_EQ(difference(pair.remote().view(), kLength, 5), kSame);
  EXPECT_EQ(fake_cuda::copies(), 0u);
  ASSERT_TRUE(pair.initiator().unregister_memory(tensor).ok());
}

// Neither way of NICs takes part: only copies by the driver are ordered with the GPU's own work.
TEST_F(FakeNicsGpu, AGpuThatDoesNotSeeTheirWritesIsStaged) {
  fake_cuda::see_writes_of_nics(false);
  fake_verbs::load_peermem(page_at);
  LogLines lines;
  GpuPair pair("rdma", {0}, {1}, with("mlx5_4,mlx5_5"), with("mlx5_4,mlx5_5"));
  EXPECT_TRUE(pair.moves_all());
  EXPECT_GT(fake_cuda::copies(), 0u);
  EXPECT_EQ(fake_cuda::exports(), 0u);
  for (const int device : {4, 5}) {
    EXPECT_EQ(fake_verbs::registrations(device, pair.local().data()), 0);
    EXPECT_EQ(fake_verbs::registrations(device, pair.remote().data()), 0);
  }
  for (const char* gpu : {"memory of cuda:0", "memory of cuda:1"}) {
    EXPECT_EQ(lines.with({"NICs do not reach", gpu, "staged in host memory",
                          "the GPU does not see writes of NICs without a flush"}),
              1);
  }
}

// The NIC still has the pages that were freed; those that are there now are another allocation's.
TEST_F(FakeNicsGpu, LocalMemoryThatWasFreedFailsTheRequest) {
  GpuPair pair("rdma", {0}, {}, with("mlx5_0"), with("mlx5_4"));
  pair.local().gpu->replace();
  std::memset(pair.remote().view(), 0x33, GpuPair::kSize);
  const Result<BatchId> batch = pair.initiator().allocate_batch(1);
  const TransferRequest write = pair.request(Opcode::kWrite, 0, 4096);
  const Status refused = pair.initiator().submit(*batch, {&write, 1});
  EXPECT_TRUE(fails_with(refused, Code::kInvalidArgument, "was freed while it was registered"));
  EXPECT_EQ(other_than(pair.remote().view(), GpuPair::kSize, std::byte{0x33}), kSame);
  ASSERT_TRUE(pair.initiator().free_batch(*batch).ok());
}

TEST_F(FakeNicsGpu, TenThousandTensorsAreExportedOnceForAllNicsAndKeepNoDescriptor) {
  constexpr size_t kTensors = 10'000, kLength = 4096;
  const GpuMemory allocation(0, kTensors * kLength);
  std::vector<BufferEntry> tensors;
  std::vector<void*> addresses;
  for (size_t i = 0; i < kTensors; ++i) {
    tensors.push_back({allocation.data() + i * kLength, kLength});
    addresses.push_back(tensors.back().addr);
  }
  const std::unique_ptr<Engine> engine = make_engine(with("mlx5_4,mlx5_5"), "rdma");
  ASSERT_TRUE(engine->register_memory(allocation.data(), kLength, "*").ok());
  ASSERT_TRUE(engine->unregister_memory(allocation.data()).ok());
  const size_t exported = fake_cuda::exports(), descriptors = open_descriptors();
  ASSERT_TRUE(engine->register_memory_batch(tensors, "*").ok());
  EXPECT_EQ(fake_cuda::exports(), exported + kTensors);
  EXPECT_EQ(open_descriptors(), descriptors);
  for (const int device : {4, 5}) {
    EXPECT_EQ(fake_verbs::registered(device), static_cast<int>(kTensors));
  }
  ASSERT_TRUE(engine->unregister_memory_batch(addresses).ok());
}

// Each GPU of the recorded machine shares a PCI switch with one NIC. `shown`: which of them is GPU
// 0 of this process.
void expect_near_nic(int shown) {
  fake_cuda::show_from(shown);
  GpuPair pair("rdma", {1}, {}, with("mlx5_0,mlx5_1,mlx5_2,mlx5_3"), with("mlx5_4"));
  const std::string matrix = *pair.initiator().nic_priority_matrix();
  const size_t row = matrix.find("\"cuda:" + std::to_string(shown + 1) + "\"");
  ASSERT_NE(row, std::string::npos) << matrix;
  const size_t name = matrix.find("mlx5_", row);
  const std::string near = matrix.substr(name, std::string("mlx5_0").size());
  uint64_t moved = 0;
  for (int i = 0; i < 16; ++i) EXPECT_TRUE(pair.moves(Opcode::kWrite, 0, 4096));
  for (const PathInfo& path : pair.initiator().paths()) {
    if (path.transport != "rdma" || path.completed_bytes == 0) continue;
    EXPECT_EQ(path.local_device, near) << shown << ": " << matrix;
    moved += path.completed_bytes;
  }
  EXPECT_GT(moved, 0u);
}

TEST_F(FakeNicsGpu, TheNicsNearTheGpuComeFirst) { expect_near_nic(0); }

TEST_F(FakeNicsGpu, AlsoWhereTheProcessNumbersGpusInItsOwnWay) {
  for (const int shown : {1, 2}) expect_near_nic(shown);
}

}  // namespace
}  // namespace te::test
