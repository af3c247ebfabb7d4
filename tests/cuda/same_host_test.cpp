// Copies between GPUs of two processes of one host, over shm: one copy by the driver, and staging
// where that is not possible.
#include <gtest/gtest.h>

#include <chrono>

#include "cuda/same_host.h"
#include "platform/memory_driver.h"

namespace te::test {
namespace {

using cuda::CuResult;
using Kind = GpuMemory::Kind;

class SameHostGpus : public SameHost {
 protected:
  std::byte* data() override { return memory_.data(); }
  std::byte* view() override { return memory_.view(); }

  void start_peer(const std::string& kind = "whole", uint16_t port = 0) {
    PeerOptions options;
    options.port = port;
    options.gpu = 1;
    options.gpu_kind = kind;
    SameHost::start_peer(options);
  }
  void connect(const std::string& kind = "whole") {
    start_peer(kind);
    open_segment();
  }
  // Whether requests of the whole memory take one copy each and no host memory.
  void expect_direct() {
    SameHost::expect_direct();
    EXPECT_EQ(fake_cuda::pinned_ranges(), 0) << "it was staged";
  }
  void expect_staged(const std::string& reason) {
    expect_moves(0, kSize);
    EXPECT_GT(fake_cuda::pinned_ranges(), 0);
    EXPECT_EQ(fake_cuda::open_ipc_handles(), 0);
    if (!reason.empty()) expect_reason(reason);
  }

  // They are opened one by one as they are reached.
  void expect_chunks(const std::string& kind) {
    connect(kind);
    expect_moves(kChunk - 8, 16);
    EXPECT_EQ(fake_cuda::calls("cuMemImportFromShareableHandle"), 2u);
    EXPECT_EQ(fake_cuda::open_ipc_handles(), 2);
    expect_moves(0, kSize);
    expect_moves(kChunk * 2 + 56, 2 * kChunk + 123);
    EXPECT_EQ(fake_cuda::calls("cuMemImportFromShareableHandle"), kSize / kChunk);
    EXPECT_EQ(peer_calls("cuMemExportToShareableHandle"), kSize / kChunk);
    EXPECT_EQ(fake_cuda::chunk_handles(), 0) << "the memory stays when the peer frees it";
    EXPECT_EQ(fake_cuda::pinned_ranges(), 0);
    ASSERT_EQ(peer_->ask("unregister"), "ok");
    EXPECT_EQ(fake_cuda::open_ipc_handles(), 0);
  }

  GpuMemory memory_{0, kSize};
};

TEST_F(SameHostGpus, EachRequestIsOneCopyOfTheDriver) {
  const int made = fake_cuda::contexts_made(1);
  connect();
  expect_direct();
  expect_direct();
  expect_moves(777, 100'001);
  expect_moves(kSize - 1, 1);
  EXPECT_EQ(fake_cuda::calls("cuIpcOpenMemHandle"), 1u);
  EXPECT_EQ(peer_calls("cuIpcGetMemHandle"), 1u);
  EXPECT_EQ(peer_calls("cuIpcOpenMemHandle"), 0u);
  EXPECT_EQ(fake_cuda::contexts_made(1), made) << "a context was made on the peer's GPU";
}

TEST_F(SameHostGpus, ManyRequestsAtOnceOpenAnAllocationOnce) {
  connect();
  constexpr uint64_t kPart = 4096;
  std::vector<TransferRequest> requests;
  for (uint64_t at = 0; at < kSize; at += kPart) {
    requests.push_back(request(Opcode::kRead, at, kPart));
  }
  ASSERT_EQ(transfer(*initiator_, requests).state, TaskState::kCompleted);
  EXPECT_EQ(difference(memory_.view(), kSize, kSeed), kSame);
  EXPECT_EQ(fake_cuda::calls("cuIpcOpenMemHandle"), 1u);
}

TEST_F(SameHostGpus, TenThousandTensorsExportAndOpenTheirAllocationOnce) {
  constexpr uint64_t kTensors = 10'000, kLength = kSize / kTensors;
  connect();
  ASSERT_EQ(peer_->ask("tensors " + std::to_string(kTensors)), "ok");
  std::vector<TransferRequest> requests;
  for (uint64_t i = 0; i < kTensors; ++i) {
    requests.push_back(request(Opcode::kRead, i * kLength, kLength));
  }
  ASSERT_EQ(transfer(*initiator_, requests).state, TaskState::kCompleted);
  EXPECT_EQ(difference(memory_.view(), kTensors * kLength, kSeed), kSame);
  EXPECT_EQ(fake_cuda::calls("cuIpcOpenMemHandle"), 1u);
  EXPECT_EQ(peer_calls("cuIpcGetMemHandle"), 1u);
  EXPECT_EQ(fake_cuda::pinned_ranges(), 0);
  // It is closed with the last of them, before unregistering it returns.
  ASSERT_EQ(peer_->ask("drop 0 9999"), "ok");
  EXPECT_EQ(fake_cuda::open_ipc_handles(), 1);
  ASSERT_EQ(run(requests.back()), TaskState::kCompleted);
  ASSERT_EQ(peer_->ask("drop 9999 10000"), "ok");
  EXPECT_EQ(fake_cuda::open_ipc_handles(), 0);
  ASSERT_EQ(peer_->ask("register"), "ok");
  expect_direct();
  EXPECT_EQ(fake_cuda::calls("cuIpcOpenMemHandle"), 2u);
}

TEST_F(SameHostGpus, ChunksAreOpenedOneByOneAsTheyAreReached) { expect_chunks("chunks"); }

TEST_F(SameHostGpus, ChunksWithFabricHandlesAloneAreOpenedByThem) { expect_chunks("fabric"); }

// As without a channel of IMEX.
TEST_F(SameHostGpus, WhereTheDriverRefusesFabricHandlesItIsStaged) {
  connect("fabric");
  fake_cuda::fail("cuMemImportFromShareableHandle", CuResult::kNotSupported);
  expect_staged("cuMemImportFromShareableHandle failed: error (801)");
  fake_cuda::fail("cuMemImportFromShareableHandle", CuResult::kSuccess);
  ASSERT_EQ(peer_->ask("unregister"), "ok");
  ASSERT_EQ(peer_->ask("register"), "ok");
  ASSERT_EQ(peer_->ask("fail cuMemExportToShareableHandle"), "ok");
  expect_staged("does not give it out");
}

TEST_F(SameHostGpus, TheTargetLogsThatFabricHandlesTakeImex) {
  const GpuMemory chunks(0, kSize, Kind::kFabric);
  const BufferEntry entry{chunks.data(), kSize};
  const Result<std::vector<ClassifiedRange>> found = classify(memory_drivers(), {&entry, 1});
  ASSERT_TRUE(found.ok());
  const std::shared_ptr<const DeviceMemory> device = found->front().device;
  const MemoryBlock block = device->blocks()->front();
  fake_cuda::fail("cuMemExportToShareableHandle", CuResult::kNotSupported);
  const Result<BlockHandle> handle = device->export_block(block);
  EXPECT_EQ(handle.code(), Code::kUnsupported);
  EXPECT_NE(handle.status().message().find("IMEX"), std::string::npos);
}

TEST_F(SameHostGpus, MemoryThatIsRegisteredAnewIsOpenedAnew) {
  connect();
  expect_direct();
  ASSERT_EQ(peer_->ask("unregister"), "ok");
  ASSERT_EQ(peer_->ask("replace"), "ok");
  ASSERT_EQ(peer_->ask("stamp 60"), "ok");
  ASSERT_EQ(peer_->ask("register"), "ok");
  seed_ = 60;
  expect_direct();
}

// The application's mistake: it frees memory that is registered, and its address is used again.
TEST_F(SameHostGpus, MemoryThatWasFreedWhileRegisteredIsNotOpened) {
  connect();
  ASSERT_EQ(peer_->ask("replace"), "ok");
  ASSERT_EQ(peer_->ask("stamp 60"), "ok");
  stamp(memory_.view(), kSize, 61);
  for (const Opcode opcode : {Opcode::kRead, Opcode::kWrite}) {
    const Status status = error_of(request(opcode, 0, kSize));
    EXPECT_NE(status.message().find("was freed while it was registered"), std::string::npos)
        << status.to_string();
  }
  EXPECT_EQ(difference(memory_.view(), kSize, 61), kSame);
  EXPECT_EQ(peer_->ask("check 60 0 " + std::to_string(kSize)), "same");
  EXPECT_EQ(fake_cuda::calls("cuIpcOpenMemHandle"), 0u);
}

// What was opened before is the memory that was freed, and nobody else's.
TEST_F(SameHostGpus, MemoryThatWasFreedAfterItWasOpenedIsNotReachedAtItsAddress) {
  connect();
  expect_direct();
  ASSERT_EQ(peer_->ask("replace"), "ok");
  ASSERT_EQ(peer_->ask("stamp 60"), "ok");
  stamp(memory_.view(), kSize, 61);
  ASSERT_EQ(run(request(Opcode::kWrite, 0, kSize)), TaskState::kCompleted);
  EXPECT_EQ(peer_->ask("check 60 0 " + std::to_string(kSize)), "same");
}

TEST_F(SameHostGpus, WhatIsUnregisteredUnderLoadIsNotTouchedAnyMore) {
  connect();
  unregister_under_load(5);
}

TEST_F(SameHostGpus, AKilledPeerIsClosedAndOneThatIsBackIsOpened) {
  connect();
  expect_direct();
  const uint16_t port = peer_->port();
  ASSERT_NO_FATAL_FAILURE(kill_peer_under_load());
  EXPECT_TRUE(eventually([] { return fake_cuda::open_ipc_handles() == 0; }));
  peer_.reset();
  start_peer("whole", port);
  seed_ = kSeed;
  expect_direct();
}

TEST_F(SameHostGpus, DeadlinesAreKeptAndCancelledRequestsAreQuiet) {
  connect();
  expect_to_end_in_time(TaskState::kTimeout);
  expect_to_end_in_time(TaskState::kCancelled);
}

TEST_F(SameHostGpus, WithoutAHandleOfTheDriverItIsStaged) {
  connect("pool");
  expect_staged("");
  EXPECT_EQ(peer_calls("cuIpcGetMemHandle"), 0u);
}

TEST_F(SameHostGpus, TheTargetLogsWhyItsMemoryIsStaged) {
  static std::string logged;
  logged.clear();
  set_log_hook([](LogLevel, std::string_view line) { logged += std::string(line) + "\n"; });
  {
    const std::unique_ptr<Engine> target = make_engine({}, "shm");
    const GpuMemory pool(0, kSize, Kind::kPool);
    ASSERT_TRUE(target->register_memory(pool.data(), kSize, "*").ok());
    ASSERT_TRUE(target->unregister_memory(pool.data()).ok());
  }
  set_log_hook({});
  EXPECT_NE(logged.find("do not reach memory of cuda:0, which is staged"), std::string::npos)
      << logged;
  EXPECT_NE(logged.find("memory of pools has none"), std::string::npos) << logged;
}

TEST_F(SameHostGpus, ManagedMemoryIsStaged) {
  connect("managed");
  expect_staged("");
}

TEST_F(SameHostGpus, WhereTheDriverOpensNothingItIsStaged) {
  connect();
  fake_cuda::fail("cuIpcOpenMemHandle", CuResult::kNotSupported);
  expect_staged("cuIpcOpenMemHandle failed: error (801)");
  const uint64_t tries = fake_cuda::calls("cuIpcOpenMemHandle");
  expect_moves(0, kSize);
  EXPECT_EQ(fake_cuda::calls("cuIpcOpenMemHandle"), tries) << "it is tried again and again";
}

// Some of its chunks can be opened, so its first slices may go directly.
TEST_F(SameHostGpus, RequestsOfSeveralSlicesAndListsAreStagedWhereTheyHaveTo) {
  constexpr uint64_t kLarge = 160 << 20;
  PeerOptions options;
  options.size = kLarge;
  options.seed = kSeed;
  options.gpu = 1;
  options.gpu_kind = "chunks";
  peer_.emplace(options);
  ASSERT_TRUE(peer_->running());
  const GpuMemory large(0, kLarge);
  initiator_ = make_engine({}, "shm");
  ASSERT_TRUE(initiator_->register_memory(large.data(), kLarge, "*").ok());
  segment_ = *initiator_->open_segment(peer_->segment());
  fake_cuda::fail("cuMemImportFromShareableHandle", CuResult::kNotSupported, 40);
  const TransferRequest read{Opcode::kRead, large.data(), segment_, peer_->address(), kLarge};
  const BatchId batch = submit_new(*initiator_, {read}, within(20'000));
  ASSERT_TRUE(initiator_->wait(batch, std::chrono::seconds(30)).ok());
  const TransferStatus status = *initiator_->batch_status(batch);
  EXPECT_EQ(status.state, TaskState::kCompleted);
  EXPECT_EQ(status.transferred_bytes, kLarge);
  ASSERT_TRUE(initiator_->free_batch(batch).ok());
  EXPECT_EQ(difference(large.view(), kLarge, kSeed), kSame);
  EXPECT_EQ(fake_cuda::open_ipc_handles(), 40);
  EXPECT_GT(fake_cuda::pinned_ranges(), 0) << "it was not staged";
  // A list of pieces all over it.
  constexpr uint64_t kPieces = 64, kLength = 70'000;
  std::vector<uint64_t> here, there;
  for (uint64_t i = 0; i < kPieces; ++i) {
    here.push_back(reinterpret_cast<uint64_t>(large.data()) + i * (kLarge / kPieces));
    there.push_back(peer_->address() + i * (kLarge / kPieces));
  }
  std::memset(large.view(), 0, kLarge);
  const std::vector<uint64_t> lengths(kPieces, kLength);
  const BatchId list = *initiator_->allocate_batch(1);
  ASSERT_TRUE(
      initiator_->submit_list(list, AddressList{Opcode::kRead, segment_, here, there, lengths})
          .ok());
  ASSERT_TRUE(initiator_->wait(list, std::chrono::seconds(30)).ok());
  EXPECT_EQ(initiator_->batch_status(list)->state, TaskState::kCompleted);
  ASSERT_TRUE(initiator_->free_batch(list).ok());
  std::vector<std::byte> expected(kLarge);
  stamp(expected.data(), kLarge, kSeed);
  for (uint64_t i = 0; i < kPieces; ++i) {
    const uint64_t at = i * (kLarge / kPieces);
    ASSERT_EQ(std::memcmp(large.view() + at, expected.data() + at, kLength), 0) << i;
    ASSERT_EQ(large.view()[at + kLength], std::byte{0}) << i;
  }
  ASSERT_TRUE(initiator_->unregister_memory(large.data()).ok());
}

TEST_F(SameHostGpus, WhereAChunkCannotBeMappedItIsStagedAndNothingStays) {
  connect("chunks");
  for (const char* call :
       {"cuMemImportFromShareableHandle", "cuMemAddressReserve", "cuMemMap", "cuMemSetAccess"}) {
    fake_cuda::fail(call, CuResult::kNotSupported);
    expect_staged(call);
    fake_cuda::fail(call, CuResult::kSuccess);
    EXPECT_EQ(fake_cuda::chunk_handles(), 0) << call;
    ASSERT_EQ(peer_->ask("unregister"), "ok");
    ASSERT_EQ(peer_->ask("register"), "ok");
  }
}

TEST_F(SameHostGpus, WhereThePeerExportsNothingItIsStaged) {
  connect();
  ASSERT_EQ(peer_->ask("fail cuIpcGetMemHandle"), "ok");
  expect_staged("does not give it out");
  // Registered again, it is tried again.
  ASSERT_EQ(peer_->ask("mend cuIpcGetMemHandle"), "ok");
  ASSERT_EQ(peer_->ask("unregister"), "ok");
  ASSERT_EQ(peer_->ask("register"), "ok");
  const uint64_t before = fake_cuda::copies();
  expect_moves(0, kSize);
  EXPECT_EQ(fake_cuda::copies() - before, 2u);
}

// The context of a GPU is held for registered memory alone, and what was opened there ends with it.
TEST_F(SameHostGpus, WhatWasOpenedEndsWithTheLastBufferOfTheGpu) {
  connect();
  expect_direct();
  EXPECT_EQ(fake_cuda::context_holders(0), 2);
  ASSERT_TRUE(initiator_->unregister_memory(memory_.data()).ok());
  EXPECT_EQ(fake_cuda::context_holders(0), 1);
  EXPECT_EQ(fake_cuda::open_ipc_handles(), 0);
  ASSERT_TRUE(initiator_->register_memory(memory_.data(), kSize, "*").ok());
  expect_direct();
  EXPECT_EQ(fake_cuda::calls("cuIpcOpenMemHandle"), 2u);
}

TEST_F(SameHostGpus, SeveralGpusHereOpenAnAllocationEach) {
  connect();
  expect_direct();
  const GpuMemory second(1, kSize);
  ASSERT_TRUE(initiator_->register_memory(second.data(), kSize, "*").ok());
  TransferRequest read = request(Opcode::kRead, 0, kSize);
  read.source = second.data();
  ASSERT_EQ(run(read), TaskState::kCompleted);
  EXPECT_EQ(difference(second.view(), kSize, seed_), kSame);
  EXPECT_EQ(fake_cuda::calls("cuIpcOpenMemHandle"), 2u);
  ASSERT_EQ(peer_->ask("unregister"), "ok");
  EXPECT_EQ(fake_cuda::open_ipc_handles(), 0);
  ASSERT_TRUE(initiator_->unregister_memory(second.data()).ok());
}

// Two engines here, or two segments, share what the driver has open.
TEST_F(SameHostGpus, TwoEnginesOfAProcessOpenAnAllocationOnce) {
  connect();
  expect_direct();
  {
    const std::unique_ptr<Engine> other = make_engine({}, "shm");
    const GpuMemory memory(0, kSize);
    ASSERT_TRUE(other->register_memory(memory.data(), kSize, "*").ok());
    const SegmentId segment = *other->open_segment(peer_->segment());
    const TransferRequest read{Opcode::kRead, memory.data(), segment, peer_->address(), kSize};
    ASSERT_EQ(transfer(*other, {read}).state, TaskState::kCompleted);
    EXPECT_EQ(difference(memory.view(), kSize, seed_), kSame);
    EXPECT_EQ(fake_cuda::calls("cuIpcOpenMemHandle"), 1u);
    ASSERT_TRUE(other->unregister_memory(memory.data()).ok());
  }
  expect_direct();
  EXPECT_EQ(fake_cuda::calls("cuIpcOpenMemHandle"), 1u);
}

TEST_F(SameHostGpus, AnErrorOfACopyFailsTheRequestAlone) {
  connect();
  expect_direct();
  expect_failed_copy();
  expect_direct();
}

}  // namespace
}  // namespace te::test
