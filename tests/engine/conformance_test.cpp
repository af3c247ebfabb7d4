// What every transport must hold, over every transport and between all kinds of memory.
#include "engine/conformance.h"

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <random>

namespace te::test {
namespace {

TEST_P(Conformance, MovesEverySizeBothWaysAtOddAddresses) {
  constexpr uint64_t kLargest = 64 << 20;
  constexpr uint64_t kMargin = 64;
  SomeMemory local = local_memory(kLargest + 2 * kMargin);
  SomeMemory remote = remote_memory(kLargest + 2 * kMargin);
  const SegmentId segment = open();
  uint64_t seed = 1;
  for (const uint64_t length :
       std::initializer_list<uint64_t>{1, 2, 7, 63, 4095, 4096, 4097, 65537, (1 << 20) - 1, 1 << 20,
                                       (1 << 20) + 1, (5 << 20) + 13, kLargest - 7}) {
    const uint64_t from = seed % 7 + 1, to = seed % 5 + 3;
    std::fill_n(remote.data(), remote.size(), std::byte{0xEE});
    fill(local.data() + from, length, seed);
    TransferStatus status =
        transfer(initiator(),
                 {{Opcode::kWrite, local.at() + from, segment, address_of(remote) + to, length}});
    ASSERT_EQ(status.state, TaskState::kCompleted) << length;
    ASSERT_EQ(status.transferred_bytes, length);
    ASSERT_EQ(first_difference(remote.data() + to, length, seed), length);
    ASSERT_EQ(remote.data()[to - 1], std::byte{0xEE});
    ASSERT_EQ(remote.data()[to + length], std::byte{0xEE});

    fill(remote.data() + to, length, seed + 1000);
    std::fill_n(local.data(), local.size(), std::byte{0xDD});
    status =
        transfer(initiator(),
                 {{Opcode::kRead, local.at() + from, segment, address_of(remote) + to, length}});
    ASSERT_EQ(status.state, TaskState::kCompleted) << length;
    ASSERT_EQ(first_difference(local.data() + from, length, seed + 1000), length);
    ASSERT_EQ(local.data()[from - 1], std::byte{0xDD});
    ASSERT_EQ(local.data()[from + length], std::byte{0xDD});
    ++seed;
  }
}

TEST_P(Conformance, MovesOverlappingBatchesOfEightThreads) {
  constexpr int kThreads = 8;
  constexpr uint64_t kPart = 4 << 20;
  SomeMemory local = local_memory(kThreads * kPart);
  SomeMemory remote = remote_memory(kThreads * kPart);
  const SegmentId segment = open();
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(static_cast<uint64_t>(t));
      const uint64_t base = static_cast<uint64_t>(t) * kPart;
      for (int round = 0; round < rounds(20); ++round) {
        // A permutation of odd-sized pieces of the thread's part, written by one batch and read
        // back by another into zeroed memory.
        fill(local.data() + base, kPart, random());
        const std::vector<std::byte> expected(local.data() + base, local.data() + base + kPart);
        std::vector<TransferRequest> requests;
        for (uint64_t at = 0; at < kPart;) {
          const uint64_t length = std::min(kPart - at, random() % 200'000 + 1);
          requests.push_back({Opcode::kWrite, local.at() + base + at, segment,
                              address_of(remote) + base + at, length});
          at += length;
        }
        std::shuffle(requests.begin(), requests.end(), random);
        if (transfer(initiator(), requests).state != TaskState::kCompleted) ++wrong;
        std::fill_n(local.data() + base, kPart, std::byte{0});
        for (TransferRequest& request : requests) request.opcode = Opcode::kRead;
        std::shuffle(requests.begin(), requests.end(), random);
        if (transfer(initiator(), requests).state != TaskState::kCompleted) ++wrong;
        if (!std::equal(expected.begin(), expected.end(), local.data() + base)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST_P(Conformance, MixesReadsAndWritesInOneBatch) {
  constexpr uint64_t kPiece = 10'000;
  constexpr uint64_t kCount = 1000;
  SomeMemory local = local_memory(2 * kPiece * kCount);
  SomeMemory remote = remote_memory(2 * kPiece * kCount);
  const SegmentId segment = open();
  fill(local.data(), kPiece * kCount, 5);
  fill(remote.data() + kPiece * kCount, kPiece * kCount, 6);
  std::vector<TransferRequest> requests;
  for (uint64_t i = 0; i < kCount; ++i) {
    requests.push_back({Opcode::kWrite, local.at() + i * kPiece, segment,
                        address_of(remote) + i * kPiece, kPiece});
    const uint64_t second = (kCount + i) * kPiece;
    requests.push_back(
        {Opcode::kRead, local.at() + second, segment, address_of(remote) + second, kPiece});
  }
  const TransferStatus status = transfer(initiator(), requests);
  EXPECT_EQ(status.state, TaskState::kCompleted);
  EXPECT_EQ(status.transferred_bytes, 2 * kPiece * kCount);
  EXPECT_EQ(std::memcmp(local.data(), remote.data(), local.size()), 0);
}

TEST_P(Conformance, TakesAHundredThousandRequestsInOneBatch) {
  constexpr uint64_t kCount = 100'000, kPiece = 64;
  SomeMemory local = local_memory(kCount * kPiece);
  SomeMemory remote = remote_memory(kCount * kPiece);
  const SegmentId segment = open();
  fill(local.data(), local.size(), 9);
  std::vector<TransferRequest> requests;
  for (uint64_t i = 0; i < kCount; ++i) {
    // Each lands elsewhere than it came from.
    requests.push_back({Opcode::kWrite, local.at() + i * kPiece, segment,
                        address_of(remote) + (kCount - 1 - i) * kPiece, kPiece});
  }
  EXPECT_EQ(transfer(initiator(), requests).state, TaskState::kCompleted);
  for (uint64_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(
        std::memcmp(local.data() + i * kPiece, remote.data() + (kCount - 1 - i) * kPiece, kPiece),
        0)
        << i;
  }
}

TEST_P(Conformance, CountsEachTaskOnceAndTellsThroughTheDescriptor) {
  SomeMemory local = local_memory(1 << 20);
  SomeMemory remote = remote_memory(1 << 20);
  const SegmentId segment = open();
  for (int round = 0; round < 200; ++round) {
    const BatchId batch = *initiator().allocate_batch(4);
    const int event = *initiator().event_fd(batch);
    pollfd entry{event, POLLIN, 0};
    ASSERT_EQ(::poll(&entry, 1, 0), 0) << "readable before anything was submitted";
    for (uint64_t i = 0; i < 4; ++i) {
      const TransferRequest request{Opcode::kWrite, local.at() + i * 1000, segment,
                                    address_of(remote) + i * 1000, 1000 + i};
      ASSERT_TRUE(initiator().submit(batch, {&request, 1}).ok());
    }
    ASSERT_EQ(::poll(&entry, 1, 10'000), 1);
    for (uint64_t i = 0; i < 4; ++i) {
      const TransferStatus status = *initiator().status(batch, i);
      ASSERT_EQ(status.state, TaskState::kCompleted);
      ASSERT_EQ(status.transferred_bytes, 1000 + i);
      ASSERT_TRUE(initiator().task_error(batch, i)->status.ok());
    }
    ASSERT_TRUE(initiator().free_batch(batch).ok());
    ASSERT_EQ(initiator().status(batch, 0).code(), Code::kNotFound);
  }
}

TEST_P(Conformance, FinishesByPollingAlone) {
  SomeMemory local = local_memory(4096);
  SomeMemory remote = remote_memory(4096);
  const SegmentId segment = open();
  fill(local.data(), 4096, 3);
  const BatchId batch = *initiator().allocate_batch(1);
  const TransferRequest request{Opcode::kWrite, local.at(), segment, address_of(remote), 4096};
  ASSERT_TRUE(initiator().submit(batch, {&request, 1}).ok());
  while (!is_terminal(initiator().status(batch, 0)->state)) std::this_thread::yield();
  EXPECT_EQ(initiator().status(batch, 0)->state, TaskState::kCompleted);
  EXPECT_EQ(std::memcmp(local.data(), remote.data(), 4096), 0);
  EXPECT_TRUE(initiator().free_batch(batch).ok());
}

TEST_P(Conformance, ZeroLengthCompletesAtOnce) {
  const SegmentId segment = open();
  const BatchId batch = *initiator().allocate_batch(1);
  const TransferRequest request{Opcode::kWrite, nullptr, segment, 0, 0};
  ASSERT_TRUE(initiator().submit(batch, {&request, 1}).ok());
  const TransferStatus status = *initiator().status(batch, 0);
  EXPECT_EQ(status.state, TaskState::kCompleted);
  EXPECT_EQ(status.transferred_bytes, 0u);
  EXPECT_TRUE(initiator().free_batch(batch).ok());
}

TEST_P(Conformance, FreesABatchInFlightOnceItIsQuiet) {
  constexpr uint64_t kLength = 32 << 20;
  SomeMemory local = local_memory(kLength);
  SomeMemory remote = remote_memory(kLength);
  const SegmentId segment = open();
  fill(local.data(), kLength, 4);
  const BatchId batch = *initiator().allocate_batch(1);
  const TransferRequest request{Opcode::kWrite, local.at(), segment, address_of(remote), kLength};
  ASSERT_TRUE(initiator().submit(batch, {&request, 1}).ok());
  ASSERT_TRUE(initiator().free_batch(batch).ok());
  EXPECT_EQ(std::memcmp(local.data(), remote.data(), kLength), 0);
}

TEST_P(Conformance, NotifiesOnceAfterTheBytes) {
  constexpr uint64_t kLength = 3 << 20;
  SomeMemory local = local_memory(kLength);
  SomeMemory remote = remote_memory(kLength);
  const SegmentId segment = open();
  for (uint64_t round = 0; round < static_cast<uint64_t>(rounds(50)); ++round) {
    fill(local.data(), kLength, round);
    const BatchId batch = *initiator().allocate_batch(3);
    std::vector<TransferRequest> requests;
    for (uint64_t i = 0; i < 3; ++i) {
      requests.push_back({Opcode::kWrite, local.at() + (i << 20), segment,
                          address_of(remote) + (i << 20), 1 << 20});
    }
    ASSERT_TRUE(
        initiator()
            .submit(batch, requests,
                    {.timeout = {}, .notification = Notification{"n", std::to_string(round)}})
            .ok());
    // The target learns by the message alone; nobody polls.
    std::vector<Notification> got;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (got.empty() && std::chrono::steady_clock::now() < until) {
      got = target().take_notifications();
    }
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].message, std::to_string(round));
    ASSERT_EQ(std::memcmp(local.data(), remote.data(), kLength), 0)
        << "the message came before the bytes";
    ASSERT_TRUE(initiator().wait(batch).ok());
    EXPECT_EQ(initiator().batch_status(batch)->state, TaskState::kCompleted);
    ASSERT_TRUE(initiator().free_batch(batch).ok());
  }
  EXPECT_TRUE(target().take_notifications().empty());
}

TEST_P(Conformance, ACancelledWriteEndsQuietly) { cancel_batches(Opcode::kWrite); }

TEST_P(Conformance, ACancelledReadEndsQuietly) { cancel_batches(Opcode::kRead); }

}  // namespace
}  // namespace te::test
