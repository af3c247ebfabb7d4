#include "core/transfer_list.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace te {
namespace {

std::byte* at(uint64_t address) { return reinterpret_cast<std::byte*>(address); }

template <typename List>
std::vector<ListRange> ranges(const List& list) {
  EXPECT_TRUE(check_list(list).ok());
  return merge(list).ranges;
}

bool operator==(const ListRange& a, const ListRange& b) {
  return a.source == b.source && a.target_offset == b.target_offset && a.length == b.length;
}

TEST(TransferList, BlocksThatFollowEachOtherAtBothEndsAreOneRange) {
  const std::vector<BlockRegion> regions = {{at(1'000), 50'000, 100}, {at(90'000), 7, 10}};
  const std::vector<uint64_t> here = {3, 4, 5, 9, 10, 2}, there = {0, 1, 2, 8, 7, 1};
  const BlockList list{Opcode::kWrite, 1, regions, here, there};
  const std::vector<ListRange> expected = {{at(1'300), 50'000, 300}, {at(1'900), 50'800, 100},
                                           {at(2'000), 50'700, 100}, {at(1'200), 50'100, 100},
                                           {at(90'030), 7, 30},      {at(90'090), 87, 10},
                                           {at(90'100), 77, 10},     {at(90'020), 17, 10}};
  const std::vector<ListRange> found = ranges(list);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(found[i] == expected[i]) << i;
  EXPECT_EQ(merge(list).bytes, 6u * 110);
}

TEST(TransferList, RangesAreMergedAndEmptyOnesLeftOut) {
  const std::vector<uint64_t> sources = {0, 100, 150, 150, 400, 500};
  const std::vector<uint64_t> offsets = {9, 1'000, 1'050, 1'050, 1'300, 1'400};
  const std::vector<uint64_t> lengths = {0, 50, 0, 20, 100, 1};
  const std::vector<ListRange> found =
      ranges(AddressList{Opcode::kRead, 1, sources, offsets, lengths});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_TRUE(found[0] == (ListRange{at(100), 1'000, 70}));
  EXPECT_TRUE(found[1] == (ListRange{at(400), 1'300, 101}));
}

TEST(TransferList, EmptyListsHaveNoRanges) {
  EXPECT_TRUE(ranges(BlockList{}).empty());
  EXPECT_TRUE(ranges(AddressList{}).empty());
  const std::vector<BlockRegion> regions = {{at(1), 2, 0}};
  EXPECT_TRUE(ranges(BlockList{Opcode::kRead, 1, regions, {}, {}}).empty());
}

// Every byte goes where the list says, whatever was merged.
TEST(TransferList, MergingMovesTheSameBytes) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    constexpr uint64_t kBlocks = 40;
    const uint64_t size = 1 + random() % 5;
    std::vector<uint64_t> here, there;
    for (size_t i = random() % 60; i > 0; --i) {
      const bool next = !here.empty() && random() % 2 == 0 && here.back() + 1 < kBlocks &&
                        there.back() + 1 < kBlocks;
      here.push_back(next ? here.back() + 1 : random() % kBlocks);
      there.push_back(next ? there.back() + 1 : random() % kBlocks);
    }
    std::vector<uint8_t> source(kBlocks * size), wanted(kBlocks * size), got(kBlocks * size);
    for (uint8_t& byte : source) byte = static_cast<uint8_t>(random());
    for (size_t i = 0; i < here.size(); ++i) {
      for (uint64_t k = 0; k < size; ++k) wanted[there[i] * size + k] = source[here[i] * size + k];
    }
    const std::vector<BlockRegion> regions = {{source.data(), 0, size}};
    const MergedList merged = merge(BlockList{Opcode::kWrite, 1, regions, here, there});
    for (const ListRange& range : merged.ranges) {
      for (uint64_t k = 0; k < range.length; ++k) {
        got[range.target_offset + k] = static_cast<uint8_t>(range.source[k]);
      }
    }
    ASSERT_EQ(got, wanted) << round;
  }
}

TEST(TransferList, WrongListsAreErrors) {
  const auto fails = [](const Status& status, const std::string& text) {
    return status.code() == Code::kInvalidArgument &&
           status.message().find(text) != std::string::npos;
  };
  const std::vector<uint64_t> one = {1}, two = {1, 2}, far = {UINT64_MAX}, large = {1ull << 60};
  const std::vector<BlockRegion> empty = {{at(1), 2, 0}}, high = {{at(1), UINT64_MAX - 5, 4}},
                                 some = {{at(1), 2, 16}};
  EXPECT_TRUE(fails(check_list(BlockList{Opcode::kRead, 1, some, one, two}), "1 source blocks"));
  EXPECT_TRUE(fails(check_list(BlockList{Opcode::kRead, 1, empty, one, one}), "no bytes"));
  EXPECT_TRUE(fails(check_list(BlockList{Opcode::kRead, 1, high, one, one}), "region 0"));
  EXPECT_TRUE(fails(check_list(BlockList{Opcode::kRead, 1, some, far, one}), "region 0"));
  EXPECT_TRUE(fails(check_list(BlockList{Opcode::kRead, 1, some, one, large}), "region 0"));
  EXPECT_TRUE(fails(check_list(BlockList{static_cast<Opcode>(7), 1, some, one, one}), "opcode 7"));
  EXPECT_TRUE(fails(check_list(AddressList{Opcode::kRead, 1, one, two, two}), "1 sources"));
  EXPECT_TRUE(fails(check_list(AddressList{Opcode::kRead, 1, one, far, one}), "range 0"));
}

}  // namespace
}  // namespace te
