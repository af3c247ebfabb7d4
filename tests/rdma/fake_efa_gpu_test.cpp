// Memory of GPUs over efa: the provider reads and writes it, or it is staged. There are neither
// GPUs nor EFA NICs.
#include <gtest/gtest.h>
#include <rdma/fi_errno.h>

#include <map>
#include <string>

#include "cuda/pair.h"
#include "support/fake_efa.h"
#include "support/log_lines.h"

namespace te::test {
namespace {

using Kind = GpuMemory::Kind;

struct Ends {
  const char* title;
  End local, remote;
};

void PrintTo(const Ends& ends, std::ostream* out) { *out << ends.title; }

std::map<std::string, std::string> with_fake() { return {{"fabric_library", TE_FAKE_EFA}}; }

class FakeEfaGpu : public testing::TestWithParam<Ends> {
 protected:
  void SetUp() override {
    fake_efa::reset();
    fake_cuda::reset();
  }
  void TearDown() override {
    for (const int gpu : {0, 1}) EXPECT_EQ(fake_cuda::context_holders(gpu), 0) << gpu;
    fake_efa::reset();
    fake_cuda::reset();
  }
};

TEST_P(FakeEfaGpu, TheProviderMovesTheBytesItself) {
  fake_efa::reach_gpus(true);
  GpuPair pair("efa", GetParam().local, GetParam().remote, with_fake(), with_fake());
  EXPECT_TRUE(pair.moves_all());
  EXPECT_EQ(fake_cuda::copies(), 0u) << "it was staged";
  const int ends = (GetParam().local.gpu >= 0 ? 1 : 0) + (GetParam().remote.gpu >= 0 ? 1 : 0);
  EXPECT_EQ(fake_efa::gpu_registrations(), ends);
  EXPECT_EQ(fake_efa::gpu_operations() > 0, GetParam().local.gpu >= 0);
}

TEST_P(FakeEfaGpu, ADomainWithoutDeviceMemoryLeavesItStaged) {
  GpuPair pair("efa", GetParam().local, GetParam().remote, with_fake(), with_fake());
  EXPECT_TRUE(pair.moves_all());
  EXPECT_GT(fake_cuda::copies(), 0u);
  EXPECT_EQ(fake_efa::gpu_registrations(), 0);
}

TEST_P(FakeEfaGpu, WhatTheProviderDoesNotRegisterIsStaged) {
  fake_efa::reach_gpus(true);
  fake_efa::refuse_gpu_memory(FI_EOPNOTSUPP);
  GpuPair pair("efa", GetParam().local, GetParam().remote, with_fake(), with_fake());
  EXPECT_TRUE(pair.moves_all());
  EXPECT_GT(fake_cuda::copies(), 0u);
}

INSTANTIATE_TEST_SUITE_P(
    Memory, FakeEfaGpu,
    testing::Values(Ends{"from_gpu", {0}, {}}, Ends{"to_gpu", {}, {1}},
                    Ends{"between_gpus", {0}, {1}},
                    Ends{"between_chunks", {0, Kind::kChunks}, {1, Kind::kChunks}}),
    [](const auto& each) { return std::string(each.param.title); });

// Once, though there are two buffers.
TEST_F(FakeEfaGpu, AWarningSaysWhyMemoryIsStaged) {
  fake_efa::reach_gpus(true);
  fake_efa::refuse_gpu_memory(FI_EOPNOTSUPP);
  LogLines lines;
  GpuPair pair("efa", {1}, {}, with_fake(), with_fake());
  const GpuMemory other(1, 1 << 20);
  ASSERT_TRUE(pair.initiator().register_memory(other.data(), 1 << 20, "*").ok());
  EXPECT_EQ(lines.with({"does not reach memory of cuda:1", "efa", "FI_HMEM"}), 1);
  ASSERT_TRUE(pair.initiator().unregister_memory(other.data()).ok());
}

TEST_F(FakeEfaGpu, AGpuThatDoesNotSeeTheWritesOfNicsIsStaged) {
  fake_efa::reach_gpus(true);
  fake_cuda::see_writes_of_nics(false);
  LogLines lines;
  GpuPair pair("efa", {0}, {1}, with_fake(), with_fake());
  EXPECT_TRUE(pair.moves_all());
  EXPECT_GT(fake_cuda::copies(), 0u);
  EXPECT_EQ(fake_efa::gpu_registrations(), 0);
  for (const char* gpu : {"memory of cuda:0", "memory of cuda:1"}) {
    EXPECT_EQ(lines.with({"NICs do not reach", gpu, "does not see writes of NICs"}), 1);
  }
}

// Those of one end alone have device memory: the other one's is staged there.
TEST_F(FakeEfaGpu, OneEndMayBeStaged) {
  GpuPair pair("efa", {}, {1}, with_fake(), with_fake());
  fake_efa::reach_gpus(true);
  const std::unique_ptr<Engine> second = make_engine(with_fake(), "efa");
  const GpuMemory memory(0, 1 << 20);
  ASSERT_TRUE(second->register_memory(memory.data(), 1 << 20, "*").ok());
  const Result<SegmentId> id = second->open_segment(pair.target().local_endpoint());
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  stamp(memory.view(), 1 << 20, 7);
  const TransferRequest write{Opcode::kWrite, memory.data(), *id,
                              reinterpret_cast<uint64_t>(pair.remote().data()), 1 << 20};
  EXPECT_EQ(transfer(*second, {write}).state, TaskState::kCompleted);
  EXPECT_EQ(difference(pair.remote().view(), 1 << 20, 7), kSame);
  EXPECT_GT(fake_cuda::copies(), 0u);
  ASSERT_TRUE(second->unregister_memory(memory.data()).ok());
}

TEST_F(FakeEfaGpu, ManagedMemoryIsNeverGivenToTheProvider) {
  fake_efa::reach_gpus(true);
  GpuPair pair("efa", {0, Kind::kManaged}, {1, Kind::kManaged}, with_fake(), with_fake());
  EXPECT_TRUE(pair.moves_all());
  EXPECT_EQ(fake_efa::gpu_registrations(), 0);
}

}  // namespace
}  // namespace te::test
