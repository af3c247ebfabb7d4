#include "transport/shm/range_table.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <set>
#include <thread>

namespace te::shm {
namespace {

class RangeTableTest : public testing::Test {
 protected:
  RangeTableTest() : table_(RangeTable::create().take()) {
    view_ = std::make_unique<RangeView>(Mapping::map(table_->fd(), kTableBytes, false).take());
  }
  RangeKey add(uint64_t address, uint64_t length) {
    Buffer buffer;
    buffer.address = address;
    buffer.length = length;
    return table_->add(buffer).take();
  }

  std::unique_ptr<RangeTable> table_;
  std::unique_ptr<RangeView> view_;  // as an initiator has it
};

TEST_F(RangeTableTest, InitiatorsSeeWhatIsThere) {
  const RangeKey first = add(0x1000, 16), second = add(0x2000, 32);
  ASSERT_NE(view_->find(first), nullptr);
  EXPECT_EQ(view_->find(first)->address, 0x1000u);
  EXPECT_EQ(view_->find(first)->length, 16u);
  EXPECT_EQ(view_->find(second)->address, 0x2000u);
  EXPECT_TRUE(table_->remove(first));
  EXPECT_EQ(view_->find(first), nullptr);
  EXPECT_NE(view_->find(second), nullptr);
  EXPECT_FALSE(table_->remove(first)) << "twice";
}

TEST_F(RangeTableTest, AnIndexUsedAgainHasAnotherGeneration) {
  const RangeKey old = add(0x1000, 16);
  ASSERT_TRUE(table_->remove(old));
  EXPECT_NE(add(0x3000, 16).index, old.index) << "not before it is released";
  table_->release(old);
  const RangeKey next = add(0x2000, 16);
  EXPECT_EQ(next.index, old.index);
  EXPECT_NE(next.generation, old.generation);
  EXPECT_EQ(view_->find(old), nullptr);
  EXPECT_EQ(view_->find(next)->address, 0x2000u);
  EXPECT_FALSE(table_->remove(old));
}

TEST_F(RangeTableTest, ForgedKeysFindNothing) {
  const RangeKey key = add(0x1000, 16);
  EXPECT_EQ(view_->find({key.index, key.generation + 1, Way::kAcross}), nullptr);
  EXPECT_EQ(view_->find({key.index + 1, key.generation, Way::kAcross}), nullptr);
  EXPECT_EQ(view_->find({key.index + 1, 0, Way::kAcross}), nullptr) << "an empty entry";
  EXPECT_EQ(view_->find({kMaxRanges, key.generation, Way::kAcross}), nullptr);
  EXPECT_EQ(view_->find({UINT32_MAX, key.generation, Way::kAcross}), nullptr);
}

TEST_F(RangeTableTest, ClosingTakesAllAway) {
  const RangeKey first = add(0x1000, 16), second = add(0x2000, 32);
  table_->close();
  EXPECT_EQ(view_->find(first), nullptr);
  EXPECT_EQ(view_->find(second), nullptr);
}

TEST_F(RangeTableTest, IsFullAtItsLimit) {
  Buffer buffer;
  buffer.address = 0x1000;
  buffer.length = 1;
  for (uint32_t i = 0; i < kMaxRanges; ++i) ASSERT_TRUE(table_->add(buffer).ok()) << i;
  EXPECT_EQ(table_->add(buffer).code(), Code::kBusy);
}

TEST_F(RangeTableTest, InitiatorsCannotWriteIntoIt) {
  EXPECT_EQ(Mapping::map(table_->fd(), kTableBytes, true).code(), Code::kResource);
  EXPECT_NE(::ftruncate(table_->fd(), 4096), 0);
  EXPECT_TRUE(is_fixed_memory_file(table_->fd(), kTableBytes));
  EXPECT_FALSE(is_fixed_memory_file(table_->fd(), kTableBytes + 1));
  EXPECT_FALSE(is_fixed_memory_file(-1, 1));
}

TEST_F(RangeTableTest, GivesTheFileOfAMappedRangeWhileItIsThere) {
  Result<MemoryFile> file = MemoryFile::create("test", 5000);
  ASSERT_TRUE(file.ok());
  Buffer buffer;
  buffer.address = reinterpret_cast<uint64_t>(file->data());
  buffer.length = 5000;
  buffer.memory_file = file->fd();
  const RangeKey key = table_->add(buffer).take();
  EXPECT_EQ(key.way, Way::kMapped);
  file->data()[4999] = std::byte{7};
  Result<RangeTable::File> found = table_->file_of(key.index, key.generation);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->length, 5000u);
  const Result<Mapping> mapping = Mapping::map(found->fd.get(), 5000, true);
  ASSERT_TRUE(mapping.ok());
  EXPECT_EQ(mapping->data()[4999], std::byte{7});
  file->discard();
  EXPECT_EQ(mapping->data()[4999], std::byte{0}) << "given back, and still mapped";
  EXPECT_EQ(table_->file_of(key.index, key.generation + 1).code(), Code::kStale);
  const RangeKey other = add(0x1000, 16);
  EXPECT_EQ(table_->file_of(other.index, other.generation).code(), Code::kStale) << "has no file";
  ASSERT_TRUE(table_->remove(key));
  EXPECT_EQ(table_->file_of(key.index, key.generation).code(), Code::kStale);
}

TEST(HazardHold, NamesWhatIsTouchedUntilItIsCleared) {
  HazardPage page{};
  std::atomic<uint64_t> used{0};
  EXPECT_FALSE(page.any());
  {
    HazardHold hold(page, used);
    EXPECT_TRUE(hold.name(0));
    EXPECT_TRUE(hold.name(5));
    EXPECT_TRUE(page.names(0) && page.names(5) && !page.names(4));
    hold.clear();
    EXPECT_FALSE(page.any());
    for (uint32_t i = 0; i < HazardSlot::kRanges; ++i) {
      EXPECT_TRUE(hold.name(i));
      EXPECT_TRUE(hold.name(i)) << "again costs nothing";
    }
    EXPECT_FALSE(hold.name(100)) << "full";
    EXPECT_TRUE(page.names(HazardSlot::kRanges - 1));
    EXPECT_FALSE(page.names(100));
  }
  EXPECT_FALSE(page.any());
  EXPECT_EQ(used.load(), 0u);
}

TEST(HazardHold, MoreThreadsThanSlotsTakeTurns) {
  HazardPage page{};
  std::atomic<uint64_t> used{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 80; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        HazardHold hold(page, used);
        hold.name(t);
        if (!page.names(t)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_FALSE(page.any());
}

}  // namespace
}  // namespace te::shm
