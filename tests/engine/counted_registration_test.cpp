// Ranges that are registered more than once.
#include <atomic>
#include <thread>

#include "engine/memory_fixture.h"
#include "engine/pair.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

TEST_F(MemoryTest, ARangeIsThereForAsLongAsItIsRegisteredOnce) {
  ASSERT_TRUE(add(0, 2).ok());
  const uint64_t generation = memory_.generation();
  ASSERT_TRUE(add(0, 3).ok()) << "two of them again";
  ASSERT_TRUE(add(0).ok());
  EXPECT_EQ(tcp_->live(), 3u);
  EXPECT_EQ(memory_.generation(), generation + 1) << "what peers are told changed once";
  EXPECT_TRUE(remove(0).ok());
  EXPECT_TRUE(remove(0).ok());
  EXPECT_TRUE(tcp_->reaches(piece(0)));
  EXPECT_TRUE(remove(0).ok());
  EXPECT_FALSE(tcp_->reaches(piece(0)));
  EXPECT_EQ(remove(0).code(), Code::kNotFound);
  // One call that names it several times.
  std::vector<BufferEntry> tied = entries(10, 3);
  tied.push_back(tied[1]);
  ASSERT_TRUE(memory_.add(tied, "*", Access::kDefault).ok());
  EXPECT_EQ(tcp_->live(), 5u);
  std::vector<void*> twice = {piece(11), piece(11)};
  EXPECT_TRUE(memory_.remove(twice).ok());
  EXPECT_FALSE(tcp_->reaches(piece(11)));
  EXPECT_EQ(tcp_->live(), 4u);
}

TEST_F(MemoryTest, ACountThatFailsIsTakenBack) {
  ASSERT_TRUE(add(0, 2).ok());
  tcp_->refuse(piece(2));
  EXPECT_EQ(add(0, 3).code(), Code::kResource);
  void* unknown[] = {piece(0), piece(1), piece(9)};
  ASSERT_TRUE(add(1).ok());
  EXPECT_EQ(memory_.remove(unknown).code(), Code::kNotFound);
  EXPECT_TRUE(remove(1).ok());
  EXPECT_TRUE(tcp_->reaches(piece(1)));
  EXPECT_TRUE(remove(0).ok());
  EXPECT_TRUE(remove(1).ok());
  EXPECT_EQ(tcp_->live(), 0u);
}

TEST_F(MemoryTest, TheSameRangeOtherwiseIsAnError) {
  ASSERT_TRUE(add(0).ok());
  const std::vector<BufferEntry> same = entries(0, 1);
  EXPECT_TRUE(fails_with(memory_.add(same, "cpu:0", Access::kDefault), Code::kAlreadyExists,
                         "location '*'"));
  EXPECT_TRUE(
      fails_with(memory_.add(same, "*", Access::kRead), Code::kAlreadyExists, "READ and WRITE"));
  EXPECT_TRUE(remove(0).ok());
  EXPECT_EQ(tcp_->live(), 0u);
}

// Both want ranges of the other, and neither waits for ever.
TEST_F(MemoryTest, CallsThatRegisterTheSameAtOnceWaitForEachOther) {
  tcp_->hold(piece(1));
  std::atomic<int> ended{0};
  std::thread first([&] {
    EXPECT_TRUE(add(0, 3).ok());
    ++ended;
  });
  ASSERT_TRUE(tcp_->wait_until_held());
  std::vector<BufferEntry> backwards = {entries(5, 1)[0], entries(2, 1)[0], entries(1, 1)[0]};
  std::thread second([&] {
    EXPECT_TRUE(memory_.add(backwards, "*", Access::kDefault).ok());
    ++ended;
  });
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_EQ(ended, 0);
  tcp_->let_go();
  first.join();
  second.join();
  EXPECT_EQ(tcp_->live(), 4u);
  for (const size_t index : {2, 1}) EXPECT_TRUE(remove(index).ok());
  EXPECT_EQ(tcp_->live(), 4u);
  for (const size_t index : {2, 1, 5}) EXPECT_TRUE(remove(index).ok());
  EXPECT_EQ(tcp_->live(), 1u);
}

TEST_F(MemoryTest, ManyThreadsCountOneRange) {
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([this] {
      for (int round = 0; round < 500; ++round) {
        ASSERT_TRUE(eventually([this] { return add(0, 2).ok(); })) << "closing at times";
        Buffer* buffer = pin(1);
        ASSERT_NE(buffer, nullptr) << "registered by this thread";
        buffer->release();
        ASSERT_TRUE(remove(0).ok());
        ASSERT_TRUE(remove(1).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(tcp_->live(), 0u);
}

}  // namespace
}  // namespace te::test
