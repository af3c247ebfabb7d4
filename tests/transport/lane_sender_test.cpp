#include "transport/tcp/lane_sender.h"

#include "support/fragile_memory.h"
#include "transport/lane_parts_harness.h"

namespace te::tcp::test {
namespace {

using te::test::Damage;
using te::test::FragileMemory;

class LaneSenderTest : public LanePartsTest {};

TEST_F(LaneSenderTest, NothingLeavesBeforeThePeerTakesRequests) {
  std::string local = "ab";
  add(Opcode::kWrite, local, 1);
  EXPECT_TRUE(sender_.blocked());
  sender_.continue_sending();
  sender_.flush();
  EXPECT_EQ(take(), "");
  start();
  EXPECT_FALSE(sender_.blocked());
  sender_.continue_sending();
  EXPECT_EQ(take(), write_frame({{1, 2, key_}}, "ab"));
  EXPECT_TRUE(sender_.left_completely(1));
}

TEST_F(LaneSenderTest, AQuestionFollowsWhatWaits) {
  start();
  std::string local = "ab";
  add(Opcode::kWrite, local, 1);
  sender_.ask();
  EXPECT_EQ(take(), write_frame({{1, 2, key_}}, "ab") + write_frame({}, ""));
  sender_.flush();
  EXPECT_EQ(take(), "") << "it was asked once";
}

TEST_F(LaneSenderTest, AFullSocketIsReportedAndRoomGoesOn) {
  start();
  std::string local(4 << 20, 'L');
  add(Opcode::kWrite, local, 1);
  sender_.flush();
  EXPECT_TRUE(sender_.blocked());
  EXPECT_EQ(blocked_, 1);
  EXPECT_FALSE(sender_.left_completely(1)) << "nor does it wait for that";
  std::string got = take();
  sender_.continue_sending();
  EXPECT_EQ(take(), "") << "nobody said that there is room";
  while (sender_.blocked()) {
    sender_.room();
    got += take();
  }
  EXPECT_TRUE(got == write_frame({{1, 4 << 20, key_}}, local));
  EXPECT_TRUE(sender_.left_completely(1));
}

TEST_F(LaneSenderTest, NothingIsSentAfterStop) {
  start();
  sender_.stop();
  std::string local = "ab";
  add(Opcode::kWrite, local, 1);
  sender_.flush();
  EXPECT_EQ(take(), "");
}

TEST_F(LaneSenderTest, UnreadableMemoryHoldsTheFrameUntilItIsLeftOut) {
  start();
  FragileMemory memory(8192);
  ASSERT_TRUE(memory.damage(Damage::kProtected, 4096, 4096));
  std::string a = "a", b = "b", unused(64, '.');
  add(Opcode::kWrite, a, 1);
  Slice& bad = add(Opcode::kWrite, unused, 2);
  bad.local = memory.data() + 4096;
  add(Opcode::kWrite, b, 3);
  sender_.flush();
  EXPECT_EQ(unreadable_, 1);
  sender_.room();
  EXPECT_EQ(take(), "") << "nothing is sent until that is resolved";
  EXPECT_TRUE(sender_.resolve_fault());
  EXPECT_EQ(host_.code_of(&bad), Code::kInvalidArgument);
  sender_.room();
  EXPECT_EQ(take(), write_frame({{1, 1, key_}, {3, 1, key_}}, "ab"));
  EXPECT_TRUE(sender_.left_completely(2));
  // A frame of nothing else.
  Slice& alone = add(Opcode::kWrite, unused, 4);
  alone.local = memory.data() + 4096;
  sender_.flush();
  EXPECT_TRUE(sender_.resolve_fault());
  EXPECT_EQ(host_.code_of(&alone), Code::kInvalidArgument);
  sender_.room();
  EXPECT_EQ(take(), "");
  EXPECT_EQ(requests_.tail(), 2u);
  ASSERT_TRUE(memory.restore());
}

TEST_F(LaneSenderTest, MemoryThatTurnsUnreadableInTheMiddleOfItsFrameEndsTheLane) {
  start();
  constexpr size_t kLength = 4 << 20;
  FragileMemory memory(kLength);
  std::string unused(kLength, '.');
  Slice& slice = add(Opcode::kWrite, unused, 1);
  slice.local = memory.data();
  sender_.flush();
  ASSERT_TRUE(sender_.blocked());
  EXPECT_NE(take(), "");
  ASSERT_TRUE(memory.damage(Damage::kProtected, 0, kLength));
  sender_.room();
  EXPECT_EQ(unreadable_, 1);
  EXPECT_FALSE(sender_.resolve_fault());
  EXPECT_EQ(host_.count(), 0u) << "it comes back with the others";
  requests_.return_all(Code::kUnavailable);
  EXPECT_EQ(host_.code_of(&slice), Code::kInvalidArgument);
  ASSERT_TRUE(memory.restore());
}

// A frame that was begun with unreadable memory would end the lane.
TEST_F(LaneSenderTest, ACarefulSenderLooksBeforeItSends) {
  start();
  careful_ = true;
  constexpr size_t kLength = 4 << 20;
  FragileMemory memory(kLength);
  ASSERT_TRUE(memory.damage(Damage::kProtected, kLength - 4096, 4096));
  std::string unused(kLength, '.');
  Slice& slice = add(Opcode::kWrite, unused, 1);
  slice.local = memory.data();
  sender_.flush();
  EXPECT_EQ(take(), "");
  EXPECT_EQ(unreadable_, 1);
  EXPECT_TRUE(sender_.resolve_fault());
  EXPECT_EQ(host_.code_of(&slice), Code::kInvalidArgument);
  ASSERT_TRUE(memory.restore());
}

}  // namespace
}  // namespace te::tcp::test
