#include "tls/record_buffer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <string_view>

namespace te::tls {
namespace {

void add(RecordBuffer& buffer, std::string_view text) {
  ASSERT_TRUE(buffer.make_room());
  ASSERT_GE(buffer.room(), text.size());
  std::memcpy(buffer.end(), text.data(), text.size());
  buffer.added(text.size());
}

std::string text_in(const RecordBuffer& buffer) {
  return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

TEST(RecordBuffer, HasRoomForManyRecordsOnceAskedFor) {
  RecordBuffer buffer;
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.room(), 0);
  ASSERT_TRUE(buffer.make_room());
  EXPECT_EQ(buffer.room(), RecordBuffer::kSize);
}

TEST(RecordBuffer, GivesBytesInOrder) {
  RecordBuffer buffer;
  add(buffer, "first ");
  add(buffer, "second");
  EXPECT_EQ(text_in(buffer), "first second");
  buffer.taken(6);
  EXPECT_EQ(text_in(buffer), "second");
}

TEST(RecordBuffer, KeepsLessThanARecordInAsMuchMemory) {
  RecordBuffer buffer;
  add(buffer, "gone half");
  buffer.taken(5);
  const std::byte* const before = buffer.data();
  buffer.settle();
  EXPECT_NE(buffer.data(), before);
  EXPECT_EQ(buffer.room(), 0);
  EXPECT_EQ(text_in(buffer), "half");
  add(buffer, " and half");
  EXPECT_EQ(text_in(buffer), "half and half");
  EXPECT_EQ(buffer.room(), RecordBuffer::kSize - buffer.size());
}

TEST(RecordBuffer, KeepsWholeRecordsWhereTheyAre) {
  RecordBuffer buffer;
  add(buffer, std::string(kMaxReceived + 1, 'x'));
  const std::byte* const before = buffer.data();
  buffer.settle();
  EXPECT_EQ(buffer.data(), before);
  EXPECT_EQ(buffer.size(), kMaxReceived + 1);
}

TEST(RecordBuffer, MovesWhatIsLeftWhenTheRoomIsSmall) {
  RecordBuffer buffer;
  add(buffer, std::string(RecordBuffer::kSize - 4, 'x') + "rest");
  EXPECT_EQ(buffer.room(), 0);
  buffer.taken(RecordBuffer::kSize - 4);
  ASSERT_TRUE(buffer.make_room());
  EXPECT_EQ(text_in(buffer), "rest");
  EXPECT_EQ(buffer.room(), RecordBuffer::kSize - 4);
}

TEST(RecordBuffer, OneThatIsEmptyLeavesItsMemoryToTheNextOneOfTheThread) {
  RecordBuffer first, second;
  add(first, "text");
  const std::byte* const memory = first.data();
  first.taken(4);
  first.settle();
  EXPECT_EQ(first.room(), 0);
  ASSERT_TRUE(second.make_room());
  EXPECT_EQ(second.data(), memory);
  ASSERT_TRUE(first.make_room());
  EXPECT_NE(first.data(), memory);
}

}  // namespace
}  // namespace te::tls
