#include "transport/tcp/outgoing_frame.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "support/fragile_memory.h"
#include "transport/frames.h"
#include "transport/socket_pair.h"

namespace te::tcp::test {
namespace {

using Outcome = OutgoingFrame::Outcome;

const std::byte* const kKeyBytes = reinterpret_cast<const std::byte*>("IIIIssssssssssssssss");
const AccessKey kKey = AccessKey::decode(kKeyBytes);

class OutgoingFrameTest : public testing::Test {
 protected:
  OutgoingFrameTest() { frame_.clear(); }
  static Slice slice(Opcode opcode, std::byte* local, uint32_t length, uint64_t address) {
    Slice slice;
    slice.opcode = opcode;
    slice.local = local;
    slice.length = length;
    slice.remote_address = address;
    slice.key = kKeyBytes;
    return slice;
  }
  static Slice slice(Opcode opcode, std::string& local, uint64_t address) {
    return slice(opcode, reinterpret_cast<std::byte*>(local.data()),
                 static_cast<uint32_t>(local.size()), address);
  }
  Outcome send() { return frame_.send(sockets_.ours, zero_copy_); }
  std::string take() { return sockets_.take(); }

  SocketPair sockets_;
  ZeroCopy zero_copy_;
  OutgoingFrame frame_;
};

TEST_F(OutgoingFrameTest, WritesAreFollowedByTheirBytes) {
  std::string a = "aa", b = "bbb";
  frame_.add(slice(Opcode::kWrite, a, 1));
  frame_.add(slice(Opcode::kWrite, b, 2));
  frame_.close();
  EXPECT_TRUE(frame_.whole());
  EXPECT_TRUE(frame_.has_memory());
  EXPECT_EQ(send(), Outcome::kSent);
  EXPECT_FALSE(frame_.whole());
  EXPECT_EQ(take(), write_frame({{1, 2, kKey}, {2, 3, kKey}}, "aabbb"));
}

TEST_F(OutgoingFrameTest, ReadsAndNoRequestAtAllHaveNoBytes) {
  std::string a = "..";
  frame_.add(slice(Opcode::kRead, a, 1));
  frame_.close();
  EXPECT_FALSE(frame_.has_memory());
  EXPECT_EQ(send(), Outcome::kSent);
  EXPECT_EQ(take(), read_frame({{1, 2, kKey}}));
  frame_.clear();
  frame_.close();
  EXPECT_EQ(send(), Outcome::kSent);
  EXPECT_EQ(take(), write_frame({}, ""));
}

TEST_F(OutgoingFrameTest, RequestsOfOneKindShareItUpToItsLimits) {
  std::string small = ".", half(kFrameBytes / 2, '.'), large(kFrameBytes + 1, '.');
  EXPECT_TRUE(frame_.takes(slice(Opcode::kWrite, large, 1))) << "alone";
  frame_.add(slice(Opcode::kWrite, half, 1));
  EXPECT_FALSE(frame_.takes(slice(Opcode::kRead, small, 1)));
  EXPECT_TRUE(frame_.takes(slice(Opcode::kWrite, half, 1)));
  frame_.add(slice(Opcode::kWrite, half, 1));
  EXPECT_FALSE(frame_.takes(slice(Opcode::kWrite, small, 1)));
  frame_.clear();
  for (size_t i = 0; i < kMaxRequestsPerFrame; ++i) {
    ASSERT_TRUE(frame_.takes(slice(Opcode::kWrite, small, i)));
    frame_.add(slice(Opcode::kWrite, small, i));
  }
  EXPECT_FALSE(frame_.takes(slice(Opcode::kWrite, small, 1)));
}

TEST_F(OutgoingFrameTest, AFullSocketTakesItInParts) {
  std::string local(kFrameBytes, 'L');
  frame_.add(slice(Opcode::kWrite, local, 1));
  frame_.close();
  std::string got;
  int parts = 0;
  for (Outcome outcome = Outcome::kBlocked; outcome != Outcome::kSent; ++parts) {
    outcome = send();
    ASSERT_NE(outcome, Outcome::kUnreadable);
    got += take();
  }
  EXPECT_GT(parts, 1);
  EXPECT_TRUE(got == write_frame({{1, kFrameBytes, kKey}}, local));
}

TEST_F(OutgoingFrameTest, MemoryThatCannotBeReadIsFoundBeforeAnythingLeft) {
  te::test::FragileMemory memory(8192);
  std::string a = "a";
  frame_.add(slice(Opcode::kWrite, a, 1));
  frame_.add(slice(Opcode::kWrite, memory.data() + 4096, 64, 2));
  frame_.close();
  EXPECT_TRUE(frame_.readable());
  ASSERT_TRUE(memory.damage(te::test::Damage::kProtected, 4096, 4096));
  EXPECT_FALSE(frame_.readable());
  EXPECT_EQ(send(), Outcome::kUnreadable);
  EXPECT_TRUE(frame_.whole());
  EXPECT_EQ(take(), "");
  frame_.clear();
  frame_.close();
  frame_.drop();
  EXPECT_EQ(send(), Outcome::kSent);
  EXPECT_EQ(take(), "") << "it was dropped";
  ASSERT_TRUE(memory.restore());
}

}  // namespace
}  // namespace te::tcp::test
