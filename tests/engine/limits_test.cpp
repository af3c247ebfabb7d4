// Long runs and large numbers: nothing grows, nothing leaks.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cstring>
#include <fstream>
#include <random>
#include <thread>

#include "engine/pair.h"

namespace te::test {
namespace {

constexpr size_t kMiB = 1 << 20;

TEST(Limits, TenThousandBatchesLeaveMemoryAndDescriptorsAsTheyWere) {
  constexpr int kBatches = kSanitized ? 2'000 : 10'000;
  Pair pair;
  const auto one = [&](int i) {
    const uint64_t length = 1 + static_cast<uint64_t>(i) * 37 % 9'000;
    const BatchId batch =
        submit_new(pair.initiator(), {pair.write(7, length), pair.read(20'000, length),
                                      pair.write(40'001, 2 * length), pair.read(80'000, 1)});
    if (i % 3 == 0) {
      EXPECT_TRUE(pair.initiator().event_fd(batch).ok());
    }
    EXPECT_TRUE(pair.initiator().wait(batch).ok());
    EXPECT_EQ(pair.initiator().batch_status(batch)->state, TaskState::kCompleted);
    EXPECT_TRUE(pair.initiator().free_batch(batch).ok());
  };
  for (int i = 0; i < 500; ++i) one(i);
  const size_t memory = resident_bytes(), descriptors = open_descriptors(),
               threads = thread_count();
  for (int i = 0; i < kBatches; ++i) one(i);
  if (!kSanitized) {
    EXPECT_LT(resident_bytes(), memory + 3 * kMiB);
  }
  EXPECT_EQ(open_descriptors(), descriptors);
  EXPECT_EQ(thread_count(), threads);
  EXPECT_TRUE(pair.works());
}

// The limit would bind the other tests too, so a child has it.
TEST(Limits, ALackOfMemoryForSlicesStartsNothing) {
  if (kSanitized) GTEST_SKIP() << "sanitizers do not run with a limited address space";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto with_little_memory = [] {
    constexpr uint64_t kLength = 256 * kMiB;
    std::unique_ptr<Engine> engine = make_engine({{"slice_bytes", "4096"}});
    void* memory = ::mmap(nullptr, kLength, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || !engine->register_memory(memory, kLength).ok()) ::_exit(2);
    const auto address = reinterpret_cast<uint64_t>(memory);
    const TransferRequest large{Opcode::kWrite, memory, kLocalSegment, address, kLength};
    const Result<BatchId> batch = engine->allocate_batch(1'000);
    uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t most = pages * 4'096 + 256 * kMiB;
    const rlimit limit{most, most};
    if (!batch.ok() || pages == 0 || ::setrlimit(RLIMIT_AS, &limit) != 0) ::_exit(3);
    const Status status = engine->submit(*batch, std::vector<TransferRequest>(1'000, large));
    std::fprintf(stderr, "%s\n", status.to_string().c_str());
    if (status.code() != Code::kResource) ::_exit(4);
    // The batch has all its room, and nobody uses the memory.
    TransferRequest small = large;
    small.target_offset += kLength / 2;
    small.length = 10'000;
    std::memset(memory, 7, small.length);
    if (!engine->submit(*batch, std::vector<TransferRequest>(1'000, small)).ok()) ::_exit(5);
    if (!engine->wait(*batch).ok() || !engine->free_batch(*batch).ok()) ::_exit(6);
    if (std::memcmp(memory, static_cast<std::byte*>(memory) + kLength / 2, small.length) != 0) {
      ::_exit(7);
    }
    ::_exit(engine->unregister_memory(memory).ok() ? 0 : 8);
  };
  EXPECT_EXIT(with_little_memory(), testing::ExitedWithCode(0),
              "resource: .* plan 1000 requests at once: submit fewer");
}

TEST(Limits, ManyBatchesAtOnceGiveTheirIdsBack) {
  Pair pair;
  std::vector<BatchId> batches;
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 20'000; ++i) {
      const Result<BatchId> batch = pair.initiator().allocate_batch(1);
      ASSERT_TRUE(batch.ok()) << batch.status().to_string();
      batches.push_back(*batch);
    }
    std::vector<BatchId> sorted = batches;
    std::sort(sorted.begin(), sorted.end());
    ASSERT_EQ(std::adjacent_find(sorted.begin(), sorted.end()), sorted.end());
    const TransferRequest request = pair.write(0, 100);
    ASSERT_TRUE(pair.initiator().submit(batches.back(), {&request, 1}).ok());
    for (const BatchId batch : batches) ASSERT_TRUE(pair.initiator().free_batch(batch).ok());
    batches.clear();
  }
  EXPECT_TRUE(pair.works());
}

constexpr size_t kBuffers = kSanitized ? 10'000 : 100'000;
constexpr size_t kBufferSize = 64;

// Every second one of twice as many places, so that no two adjoin.
std::vector<BufferEntry> places(std::vector<std::byte>& memory) {
  std::vector<BufferEntry> entries;
  for (size_t i = 0; i < kBuffers; ++i) {
    entries.push_back({memory.data() + 2 * i * kBufferSize, kBufferSize});
  }
  return entries;
}

void reach_buffers(Engine& target, const std::vector<BufferEntry>& entries) {
  std::unique_ptr<Engine> initiator = make_engine();
  Registered local(*initiator, kBufferSize);
  const Result<SegmentId> segment = initiator->open_segment(target.local_endpoint());
  ASSERT_TRUE(segment.ok()) << segment.status().to_string();
  const Result<SegmentInfo> info = initiator->describe_segment(*segment);
  ASSERT_TRUE(info.ok()) << info.status().to_string();
  ASSERT_EQ(info->buffers.size(), kBuffers);
  uint64_t seed = 1;
  for (const size_t i : {kBuffers - 1, size_t{0}, kBuffers / 2}) {
    auto* there = static_cast<std::byte*>(entries[i].addr);
    stamp(local.data(), kBufferSize, ++seed);
    ASSERT_EQ(transfer(*initiator, {{Opcode::kWrite, local.data(), *segment,
                                     reinterpret_cast<uint64_t>(there), kBufferSize}})
                  .state,
              TaskState::kCompleted);
    ASSERT_EQ(difference(there, kBufferSize, seed), kSame);
    // The same by its offset in the segment.
    std::memset(local.data(), 0, kBufferSize);
    ASSERT_EQ(transfer(*initiator,
                       {{Opcode::kRead, local.data(), *segment, i * kBufferSize, kBufferSize}})
                  .state,
              TaskState::kCompleted);
    ASSERT_EQ(difference(local.data(), kBufferSize, seed), kSame);
  }
  EXPECT_TRUE(initiator->close_segment(*segment).ok());
}

TEST(Limits, AHundredThousandBuffersInOneCall) {
  std::vector<std::byte> memory(2 * kBuffers * kBufferSize);
  const std::vector<BufferEntry> entries = places(memory);
  std::unique_ptr<Engine> target = make_engine();
  ASSERT_TRUE(target->register_memory_batch(entries).ok());
  reach_buffers(*target, entries);
  std::vector<void*> addresses;
  for (const BufferEntry& entry : entries) addresses.push_back(entry.addr);
  EXPECT_TRUE(target->unregister_memory_batch(addresses).ok());
  EXPECT_TRUE(target->describe_segment(kLocalSegment)->buffers.empty());
}

TEST(Limits, AHundredThousandBuffersOneByOne) {
  std::vector<std::byte> memory(2 * kBuffers * kBufferSize);
  const std::vector<BufferEntry> entries = places(memory);
  std::unique_ptr<Engine> target = make_engine();
  for (const BufferEntry& entry : entries) {
    ASSERT_TRUE(target->register_memory(entry.addr, entry.length).ok());
  }
  reach_buffers(*target, entries);
  // In another order than they came.
  std::vector<BufferEntry> shuffled = entries;
  std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937_64(1));
  for (const BufferEntry& entry : shuffled) {
    ASSERT_TRUE(target->unregister_memory(entry.addr).ok());
  }
  EXPECT_TRUE(target->describe_segment(kLocalSegment)->buffers.empty());
  EXPECT_TRUE(target->register_memory(memory.data(), memory.size()).ok());
}

TEST(Limits, EnginesComeAndGoWithoutLeaks) {
  constexpr int kCycles = kSanitized ? 30 : 200;
  std::unique_ptr<Engine> target = make_engine();
  Registered remote(*target, 100'000);
  const auto cycle = [&](uint64_t seed) {
    std::unique_ptr<Engine> engine = make_engine();
    Registered local(*engine, 100'000);
    const Result<SegmentId> segment = engine->open_segment(target->local_endpoint());
    ASSERT_TRUE(segment.ok()) << segment.status().to_string();
    stamp(local.data(), local.size(), seed);
    ASSERT_EQ(transfer(*engine, {{Opcode::kWrite, local.data(), *segment, 0, local.size()}}).state,
              TaskState::kCompleted);
    ASSERT_EQ(difference(remote.data(), remote.size(), seed), kSame);
  };
  for (uint64_t i = 0; i < 20; ++i) cycle(i);
  // What the target served ends a moment after its peer.
  size_t descriptors = open_descriptors();
  eventually([&] { return std::exchange(descriptors, open_descriptors()) == open_descriptors(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  descriptors = open_descriptors();
  const size_t threads = thread_count(), memory = resident_bytes();
  for (uint64_t i = 0; i < kCycles; ++i) cycle(i);
  EXPECT_TRUE(eventually([&] { return open_descriptors() <= descriptors; }))
      << open_descriptors() << " descriptors after " << descriptors;
  EXPECT_TRUE(eventually([&] { return thread_count() <= threads; }));
  if (!kSanitized) {
    EXPECT_LT(resident_bytes(), memory + 8 * kMiB);
  }
}

TEST(Limits, SegmentsOpenAndCloseManyTimes) {
  Pair pair;
  const std::string name = pair.target().local_endpoint();
  size_t descriptors = 0;
  for (int i = 0; i < 300; ++i) {
    const Result<SegmentId> again = pair.initiator().open_segment(name);
    ASSERT_TRUE(again.ok());
    ASSERT_EQ(*again, pair.segment()) << "the same name has the same id while it is open";
    const Result<SegmentId> fresh = pair.initiator().open_segment_no_cache(name);
    ASSERT_EQ(*fresh, pair.segment());
    ASSERT_TRUE(pair.initiator().close_segment(*again).ok());
    ASSERT_TRUE(pair.initiator().close_segment(*fresh).ok());
    if (i == 20) descriptors = open_descriptors();
  }
  EXPECT_LE(open_descriptors(), descriptors + 4);
  EXPECT_TRUE(pair.works());
}

}  // namespace
}  // namespace te::test
