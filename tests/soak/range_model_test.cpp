// The checker of the soak must find each kind of fault that is planted here, and nothing in what is
// allowed.
#include "soak/range_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "soak/stamp.h"

namespace te::soak {
namespace {

constexpr uint64_t kRange = 77;
constexpr uint64_t kWhole = 0, kLosing = 1, kLost = 2;  // epochs of the buffer's content

class RangeModelTest : public testing::Test {
 protected:
  // A WRITE that ended; `arrived`: bytes of it that reached the memory.
  uint64_t write(bool completed, size_t arrived = 100, uint64_t epoch = kWhole) {
    const uint64_t sequence = model_.begin_write();
    arrive(sequence, 0, arrived);
    model_.end_write(sequence, completed, epoch);
    return sequence;
  }

  void arrive(uint64_t sequence, size_t from, size_t to) {
    std::vector<std::byte> content(memory_.size());
    stamp(content.data(), content.size(), kRange, sequence);
    std::copy(content.begin() + static_cast<long>(from), content.begin() + static_cast<long>(to),
              memory_.begin() + static_cast<long>(from));
  }

  std::string found(uint64_t epoch = kWhole) const {
    return model_.check(memory_.data(), memory_.size(), epoch).kind;
  }

  RangeState state_ = {};
  RangeModel model_{kRange, state_};
  std::vector<std::byte> memory_ = std::vector<std::byte>(100);  // ends in the middle of a word
};

TEST_F(RangeModelTest, AcceptsWhatCompleted) {
  EXPECT_EQ(found(), "");
  write(true);
  EXPECT_EQ(found(), "");
  write(true);
  EXPECT_EQ(found(), "");
}

TEST_F(RangeModelTest, AcceptsAnyPartOfWhatDidNotComplete) {
  write(true);
  const uint64_t second = write(false, 0);
  EXPECT_EQ(found(), "");
  arrive(second, 3, 61);  // from the middle of a word to the middle of a word
  EXPECT_EQ(found(), "");
  const uint64_t third = write(false, 50);
  arrive(second, 48, 53);  // three WRITEs in one word
  arrive(third, 90, 100);
  EXPECT_EQ(found(), "");
}

TEST_F(RangeModelTest, FindsCompletedBytesThatAreNotThere) {
  write(true, 96);
  EXPECT_EQ(found(), "lost");
  write(true);
  write(true, 40);
  EXPECT_EQ(found(), "lost");
}

TEST_F(RangeModelTest, FindsAGhostWrite) {
  write(true);
  const uint64_t abandoned = write(false, 0);
  write(true);
  EXPECT_EQ(found(), "");
  arrive(abandoned, 64, 72);
  EXPECT_EQ(found(), "ghost");
}

TEST_F(RangeModelTest, FindsAGhostWriteOfTheLastBytes) {
  const uint64_t abandoned = write(false, 0);
  write(true);
  write(false, 0);
  arrive(abandoned, 97, 100);
  EXPECT_NE(found(), "");
}

TEST_F(RangeModelTest, FindsACompletedWriteThatLandsAgain) {
  const uint64_t first = write(true);
  EXPECT_EQ(found(), "");
  write(true);
  EXPECT_EQ(found(), "");
  arrive(first, 0, 100);
  EXPECT_EQ(found(), "ghost");
}

TEST_F(RangeModelTest, FindsCorruptBytes) {
  write(true);
  memory_[50] ^= std::byte{1};
  EXPECT_EQ(found(), "corrupt");
  write(false, 0);  // a later WRITE that brought nothing excuses nothing
  EXPECT_EQ(found(), "corrupt");
}

TEST_F(RangeModelTest, FindsBytesAtTheWrongPlace) {
  write(true);
  std::copy_n(memory_.begin(), 8, memory_.begin() + 16);
  EXPECT_EQ(found(), "corrupt");
}

TEST_F(RangeModelTest, FindsBytesOfAWriteThatWasNotBegun) {
  write(true);
  arrive(2, 0, 8);
  EXPECT_NE(found(), "");
}

TEST_F(RangeModelTest, FindsPoison) {
  write(true);
  arrive(kPoison, 8, 16);
  EXPECT_EQ(found(), "poison");
}

TEST_F(RangeModelTest, FindsZerosUnlessContentWasLost) {
  write(true);
  std::fill(memory_.begin(), memory_.end(), std::byte{0});
  EXPECT_EQ(found(), "lost");
  EXPECT_EQ(found(kLosing), "");
  EXPECT_EQ(found(kLost), "");
}

TEST_F(RangeModelTest, AWriteAfterTheLossIsHeldTo) {
  write(true);
  write(true, 0, kLosing);  // completed while content was being lost
  std::fill(memory_.begin(), memory_.end(), std::byte{0});
  EXPECT_EQ(found(kLost), "");
  write(true, 60, kLost);
  EXPECT_EQ(found(kLost), "lost");
}

TEST_F(RangeModelTest, ZerosOfASourceThatWasTruncated) {
  write(true);
  const uint64_t sequence = model_.begin_write(true);
  std::fill(memory_.begin(), memory_.begin() + 30, std::byte{0});
  model_.end_write(sequence, false, kLosing);
  EXPECT_EQ(found(), "");
  memory_[1] = std::byte{1};
  EXPECT_NE(found(), "");
}

TEST_F(RangeModelTest, WritesOfAProcessThatDiedMayArriveUntilTheySettled) {
  write(true);
  const uint64_t under_way = model_.begin_write();
  RangeModel successor(kRange, state_);  // as after a restart: the state is all there is
  successor.replace_writer();
  write(true);
  arrive(under_way, 0, 30);
  EXPECT_EQ(found(), "");
  model_.settle();
  EXPECT_EQ(found(), "ghost");
}

TEST_F(RangeModelTest, ReportsOnce) {
  write(true);
  memory_[0] ^= std::byte{1};
  ASSERT_NE(found(), "");
  model_.forget();
  EXPECT_EQ(found(), "");
  write(true, 50);
  EXPECT_NE(found(), "") << "the next WRITE is held to again";
}

TEST(Stamp, NamesTheRangeTheSequenceAndThePlace) {
  const uint64_t word = stamp_word(5, 9, 3);
  EXPECT_EQ(stamped_sequence(5, word, 3), 9u);
  EXPECT_FALSE(stamped_sequence(6, word, 3).has_value());
  EXPECT_FALSE(stamped_sequence(5, word, 4).has_value());
  EXPECT_EQ(stamped_sequence(5, 0, 3), 0u);
}

TEST(Stamp, FindsTheFirstDifference) {
  std::vector<std::byte> memory(21);
  stamp(memory.data(), memory.size(), 5, 9);
  EXPECT_EQ(first_difference(memory.data(), memory.size(), 5, 9), memory.size());
  for (const size_t at : {0u, 7u, 8u, 20u}) {
    memory[at] ^= std::byte{128};
    EXPECT_EQ(first_difference(memory.data(), memory.size(), 5, 9), at);
    memory[at] ^= std::byte{128};
  }
}

}  // namespace
}  // namespace te::soak
