// Copies between memory of a GPU and host memory of two processes of one host, over shm: one copy
// by the driver of this process where it reaches both, and staging where it does not.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "cuda/same_host.h"
#include "support/fragile_memory.h"

namespace te::test {
namespace {

using cuda::CuResult;

// Memory of a GPU here, and memory that its engine allocated there.
class AllocatedThere : public SameHost {
 protected:
  static constexpr uint64_t kWindow = 32 << 20;  // of the file, which is pinned at once

  std::byte* data() override { return memory_->data(); }
  std::byte* view() override { return memory_->view(); }

  void connect(uint64_t size = kSize) {
    memory_.emplace(0, size);
    PeerOptions options;
    options.allocate = true;
    options.size = size;
    start_peer(options);
    open_segment();
  }

  std::optional<GpuMemory> memory_;
};

TEST_F(AllocatedThere, EachRequestIsOneCopyOfTheDriver) {
  connect();
  expect_direct();
  expect_direct();
  expect_moves(777, 100'001);
  expect_moves(kSize - 1, 1);
  EXPECT_EQ(fake_cuda::pinned_ranges(), 1) << "of the file alone";
  EXPECT_EQ(fake_cuda::pageable_copies(), 0u);
}

TEST_F(AllocatedThere, ALargeFileIsPinnedInWindowsThatNoCopyCrosses) {
  constexpr uint64_t kLarge = 2 * kWindow + 4 * kChunk;
  connect(kLarge);
  expect_moves(kWindow - 8, 16);
  EXPECT_EQ(fake_cuda::copies(), 4u);
  EXPECT_EQ(fake_cuda::pinned_ranges(), 2);
  fake_cuda::reset();
  expect_moves(0, kLarge);
  EXPECT_EQ(fake_cuda::copies(), 6u);
  EXPECT_EQ(fake_cuda::pinned_ranges(), 3);
  EXPECT_EQ(fake_cuda::pageable_copies(), 0u);
}

TEST_F(AllocatedThere, RequestsThatAdjoinAreOneCopy) {
  constexpr uint64_t kPart = 4096;
  connect();
  expect_direct();
  fake_cuda::reset();
  std::vector<TransferRequest> requests;
  for (uint64_t at = 0; at < kSize; at += kPart) {
    requests.push_back(request(Opcode::kRead, at, kPart));
  }
  std::memset(view(), 0, kSize);
  ASSERT_EQ(transfer(*initiator_, requests).state, TaskState::kCompleted);
  EXPECT_EQ(difference(view(), kSize, seed_), kSame);
  EXPECT_LE(fake_cuda::copies(), requests.size() / 8);
}

TEST_F(AllocatedThere, MemoryThatCannotBePinnedIsCopiedAllTheSame) {
  connect();
  fake_cuda::fail("cuMemHostRegister", CuResult::kOutOfMemory);
  expect_direct();
  EXPECT_EQ(fake_cuda::pageable_copies(), 2u);
  EXPECT_EQ(fake_cuda::pinned_ranges(), 0);
}

TEST_F(AllocatedThere, OrdinaryMemoryIsStagedHere) {
  memory_.emplace(0, kSize);
  start_peer({});
  open_segment();
  expect_moves(0, kSize);
  EXPECT_GT(fake_cuda::copies(), 2u);
  EXPECT_GT(fake_cuda::pinned_ranges(), 0);
}

TEST_F(AllocatedThere, AnErrorOfACopyFailsTheRequestAlone) {
  connect();
  expect_direct();
  expect_failed_copy();
  expect_direct();
}

TEST_F(AllocatedThere, LocalMemoryThatWasFreedFailsTheRequest) {
  connect();
  expect_direct();
  memory_->replace();
  stamp(view(), kSize, 61);
  for (const Opcode opcode : {Opcode::kRead, Opcode::kWrite}) {
    const Status status = error_of(request(opcode, 0, kSize));
    EXPECT_NE(status.message().find("was freed while it was registered"), std::string::npos)
        << status.to_string();
  }
  EXPECT_EQ(difference(view(), kSize, 61), kSame);
  EXPECT_EQ(peer_->ask("check " + std::to_string(seed_) + " 0 " + std::to_string(kSize)), "same");
}

// It is given back to the kernel only when no copy touches it any more, and is not pinned then.
TEST_F(AllocatedThere, WhatIsFreedUnderLoadIsNotTouchedAnyMore) {
  connect();
  expect_direct();
  fake_cuda::slow_down(500, 0);
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      while (!over.load()) {
        const Opcode opcode = i == 0 ? Opcode::kRead : Opcode::kWrite;
        const BatchId batch =
            submit_new(*initiator_, {request(opcode, i * kChunk, kChunk)}, within(100));
        EXPECT_TRUE(initiator_->wait(batch, std::chrono::seconds(20)).ok());
        EXPECT_TRUE(initiator_->free_batch(batch).ok());
      }
    });
  }
  EXPECT_TRUE(eventually([] { return fake_cuda::copies() > 20; }));
  EXPECT_EQ(peer_->ask("free"), "ok");
  EXPECT_EQ(fake_cuda::copies_under_way(), 0);
  EXPECT_TRUE(eventually([] { return fake_cuda::pinned_ranges() == 0; }))
      << "its pages stay in memory";
  over = true;
  for (std::thread& thread : threads) thread.join();
}

TEST_F(AllocatedThere, AKilledPeerIsUnmappedAndOneThatIsBackIsMapped) {
  connect();
  expect_direct();
  const uint16_t port = peer_->port();
  ASSERT_NO_FATAL_FAILURE(kill_peer_under_load());
  peer_.reset();
  PeerOptions options;
  options.allocate = true;
  options.port = port;
  start_peer(options);
  seed_ = kSeed;
  expect_direct();
  EXPECT_TRUE(eventually([] { return fake_cuda::pinned_ranges() == 1; }));
}

TEST_F(AllocatedThere, DeadlinesAreKeptAndCancelledRequestsAreQuiet) {
  connect();
  expect_to_end_in_time(TaskState::kTimeout);
  expect_to_end_in_time(TaskState::kCancelled);
}

// Host memory here, and memory of a GPU there.
class GpuThere : public SameHost {
 protected:
  std::byte* data() override { return memory_.data(); }
  std::byte* view() override { return memory_.data(); }

  void connect(const std::string& kind = "whole", uint16_t port = 0) {
    ASSERT_NE(memory_.data(), nullptr);
    start(kind, port);
    open_segment();
  }
  void start(const std::string& kind, uint16_t port) {
    PeerOptions options;
    options.gpu = 1;
    options.gpu_kind = kind;
    options.port = port;
    start_peer(options);
  }

  // The application uses GPU 0, with memory that it does not register.
  std::optional<GpuMemory> used_{std::in_place, 0, kChunk};
  FragileMemory memory_{kSize};
};

TEST_F(GpuThere, EachRequestIsOneCopyOfTheDriverHere) {
  const int made = fake_cuda::contexts_made(0) + fake_cuda::contexts_made(1);
  connect();
  expect_direct();
  expect_direct();
  expect_moves(777, 100'001);
  expect_moves(kSize - 1, 1);
  EXPECT_EQ(fake_cuda::calls("cuIpcOpenMemHandle"), 1u);
  EXPECT_EQ(fake_cuda::contexts_made(0) + fake_cuda::contexts_made(1), made);
  EXPECT_EQ(peer_calls("cuMemcpyAsync"), 0u) << "it was staged there";
}

TEST_F(GpuThere, TheContextIsHeldForAsLongAsABlockIsOpen) {
  connect();
  EXPECT_EQ(fake_cuda::context_holders(0), 1);
  expect_direct();
  EXPECT_EQ(fake_cuda::context_holders(0), 2);
  ASSERT_EQ(peer_->ask("unregister"), "ok");
  EXPECT_EQ(fake_cuda::open_ipc_handles(), 0);
  EXPECT_EQ(fake_cuda::context_holders(0), 1);
  EXPECT_EQ(fake_cuda::streams(), 0);
  ASSERT_EQ(peer_->ask("register"), "ok");
  expect_direct();
}

TEST_F(GpuThere, WithoutAContextOfAnyGpuItIsStagedThereAndNoneIsMade) {
  used_.reset();
  const int made = fake_cuda::contexts_made(0) + fake_cuda::contexts_made(1);
  connect();
  expect_moves(0, kSize);
  EXPECT_EQ(fake_cuda::copies(), 0u);
  EXPECT_GT(peer_calls("cuMemcpyAsync"), 0u);
  EXPECT_EQ(fake_cuda::contexts_made(0) + fake_cuda::contexts_made(1), made);
  EXPECT_EQ(fake_cuda::calls("cuIpcOpenMemHandle"), 0u);
  // From then on that a GPU is used.
  used_.emplace(1, kChunk);
  expect_direct();
}

TEST_F(GpuThere, ChunksAreOpenedOneByOneAsTheyAreReached) {
  connect("chunks");
  expect_moves(kChunk - 8, 16);
  EXPECT_EQ(fake_cuda::open_ipc_handles(), 2);
  expect_moves(0, kSize);
  EXPECT_EQ(fake_cuda::open_ipc_handles(), static_cast<int>(kSize / kChunk));
  EXPECT_EQ(peer_calls("cuMemcpyAsync"), 0u);
  ASSERT_EQ(peer_->ask("unregister"), "ok");
  EXPECT_EQ(fake_cuda::open_ipc_handles(), 0);
}

TEST_F(GpuThere, InaccessibleHostMemoryFailsTheRequestAlone) {
  connect();
  expect_direct();
  for (const Damage damage : kDamages) {
    ASSERT_TRUE(memory_.damage(damage, kSize / 2, kSize / 2));
    const Opcode opcode = damage == Damage::kReadOnly ? Opcode::kRead : Opcode::kWrite;
    const Status status = error_of(request(opcode, 0, kSize));
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << name_of(damage);
    EXPECT_NE(status.message().find("it is not accessible"), std::string::npos)
        << status.to_string();
    EXPECT_EQ(run(request(Opcode::kRead, 0, kSize / 2)), TaskState::kCompleted) << name_of(damage);
    ASSERT_TRUE(memory_.restore());
  }
  expect_direct();
}

TEST_F(GpuThere, WhereTheDriverOpensNothingItIsStaged) {
  connect();
  fake_cuda::fail("cuIpcOpenMemHandle", CuResult::kNotSupported);
  expect_moves(0, kSize);
  EXPECT_EQ(fake_cuda::copies(), 0u);
  expect_reason("cuIpcOpenMemHandle failed: error (801)");
  const uint64_t tries = fake_cuda::calls("cuIpcOpenMemHandle");
  expect_moves(0, kSize);
  EXPECT_EQ(fake_cuda::calls("cuIpcOpenMemHandle"), tries) << "it is tried again and again";
}

TEST_F(GpuThere, WhereNoContextIsToBeHadItIsStaged) {
  connect();
  fake_cuda::fail("cuDevicePrimaryCtxRetain", CuResult::kOutOfMemory);
  expect_moves(0, kSize);
  EXPECT_EQ(fake_cuda::copies(), 0u);
  EXPECT_GT(peer_calls("cuMemcpyAsync"), 0u);
}

// Any GPU copies host memory, but memory of a GPU is copied by its own.
TEST_F(GpuThere, WhatOneGpuCannotOpenForHostMemoryAnotherOneMayForItsOwn) {
  connect();
  fake_cuda::fail("cuIpcOpenMemHandle", CuResult::kNotSupported);
  expect_moves(0, kSize);
  fake_cuda::fail("cuIpcOpenMemHandle", CuResult::kSuccess);
  const GpuMemory own(1, kSize);
  ASSERT_TRUE(initiator_->register_memory(own.data(), kSize, "*").ok());
  TransferRequest read = request(Opcode::kRead, 0, kSize);
  read.source = own.data();
  ASSERT_EQ(run(read), TaskState::kCompleted);
  EXPECT_EQ(difference(own.view(), kSize, seed_), kSame);
  EXPECT_EQ(fake_cuda::copies(), 1u);
  EXPECT_EQ(fake_cuda::pinned_ranges(), 0);
  ASSERT_TRUE(initiator_->unregister_memory(own.data()).ok());
}

TEST_F(GpuThere, WhatAGpuCannotOpenForItsMemoryIsNotTriedForHostMemory) {
  connect();
  fake_cuda::fail("cuIpcOpenMemHandle", CuResult::kNotSupported);
  const GpuMemory own(0, kSize);
  ASSERT_TRUE(initiator_->register_memory(own.data(), kSize, "*").ok());
  TransferRequest read = request(Opcode::kRead, 0, kSize);
  read.source = own.data();
  ASSERT_EQ(run(read), TaskState::kCompleted);
  EXPECT_EQ(difference(own.view(), kSize, seed_), kSame);
  const uint64_t tries = fake_cuda::calls("cuIpcOpenMemHandle");
  expect_moves(0, kSize);
  EXPECT_EQ(fake_cuda::calls("cuIpcOpenMemHandle"), tries);
  ASSERT_TRUE(initiator_->unregister_memory(own.data()).ok());
}

TEST_F(GpuThere, AnErrorOfACopyFailsTheRequestAlone) {
  connect();
  expect_direct();
  expect_failed_copy();
  expect_direct();
}

TEST_F(GpuThere, WhatIsUnregisteredUnderLoadIsNotTouchedAnyMore) {
  connect();
  unregister_under_load(3);
}

TEST_F(GpuThere, DeadlinesAreKeptAndCancelledRequestsAreQuiet) {
  connect();
  expect_to_end_in_time(TaskState::kTimeout);
  expect_to_end_in_time(TaskState::kCancelled);
}

TEST_F(GpuThere, AKilledPeerIsClosedAndOneThatIsBackIsOpened) {
  connect();
  expect_direct();
  const uint16_t port = peer_->port();
  ASSERT_NO_FATAL_FAILURE(kill_peer_under_load());
  EXPECT_TRUE(eventually([] { return fake_cuda::open_ipc_handles() == 0; }));
  EXPECT_TRUE(eventually([] { return fake_cuda::context_holders(0) == 1; }));
  peer_.reset();
  start("whole", port);
  seed_ = kSeed;
  expect_direct();
}

}  // namespace
}  // namespace te::test
