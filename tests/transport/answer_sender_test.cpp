#include "transport/tcp/answer_sender.h"

#include <gtest/gtest.h>

#include <string>

#include "support/fragile_memory.h"
#include "transport/frames.h"
#include "transport/socket_pair.h"

namespace te::tcp::test {
namespace {

using Outcome = AnswerSender::Outcome;
using te::test::Damage;
using te::test::FragileMemory;

class AnswerSenderTest : public testing::Test {
 protected:
  AnswerSenderTest() { key_ = add(memory_.data(), memory_.size()); }
  AccessKey add(const void* begin, uint64_t length) {
    return *table_.add(reinterpret_cast<uint64_t>(begin), length, Rights::kRead);
  }
  static PeerRequest read(const void* at, uint32_t length, const AccessKey& key,
                          uint64_t sequence) {
    return {{reinterpret_cast<uint64_t>(at), length, key}, sequence, Code::kOk};
  }
  PeerRequest read(size_t offset, uint32_t length, uint64_t sequence) {
    return read(memory_.data() + offset, length, key_, sequence);
  }
  Outcome send(bool careful = false) { return answers_.send(sockets_.ours, careful); }
  std::string take() { return sockets_.take(); }

  std::string memory_ = "abcdefghijklmnopqrstuvwxyz";
  AccessTable table_;
  AccessKey key_;
  SocketPair sockets_;
  AnswerSender answers_{table_};
};

TEST_F(AnswerSenderTest, RefusalsComeBeforeTheAcknowledgementAndBytesLast) {
  EXPECT_TRUE(answers_.empty());
  EXPECT_EQ(send(), Outcome::kSent);
  answers_.begin("hello");
  answers_.answer_read(read(2, 3, 7));
  answers_.acknowledge(5);
  answers_.refuse(6, Code::kOutOfRange);
  EXPECT_FALSE(answers_.empty());
  EXPECT_EQ(send(), Outcome::kSent);
  const std::string expected = "hello" + refused(6, Code::kOutOfRange) + ack(5) + data(7, 1, "cde");
  EXPECT_EQ(take(), expected);
  EXPECT_EQ(answers_.sent_bytes(), expected.size());
  EXPECT_TRUE(answers_.empty());
  EXPECT_EQ(answers_.reads(), 0u);
}

TEST_F(AnswerSenderTest, ReadsInARowShareAnAnswer) {
  for (uint64_t i = 0; i < 3; ++i) answers_.answer_read(read(i, 1, i));
  answers_.answer_read(read(9, 1, 4));
  EXPECT_EQ(answers_.reads(), 4u);
  EXPECT_EQ(send(), Outcome::kSent);
  EXPECT_EQ(take(), data(0, 3, "abc") + data(4, 1, "j"));
}

TEST_F(AnswerSenderTest, MuchToAcknowledgeIsUrgent) {
  answers_.expect_write((512 << 10) - 1);
  EXPECT_FALSE(answers_.urgent());
  answers_.expect_write(1);
  EXPECT_TRUE(answers_.urgent());
  answers_.acknowledge(1);
  EXPECT_EQ(send(), Outcome::kSent);
  EXPECT_FALSE(answers_.urgent());
}

TEST_F(AnswerSenderTest, APeerThatTakesNothingMakesItFull) {
  uint64_t refusals = 0;
  while (!answers_.full()) {
    answers_.refuse(refusals++, Code::kPermission);
    ASSERT_LE(refusals, 100'000u);
  }
  EXPECT_EQ(send(), Outcome::kSent);
  EXPECT_FALSE(answers_.full());
  EXPECT_EQ(take().size(), refusals * AnswerHeader::kSize);
}

TEST_F(AnswerSenderTest, AFullSocketTakesTheBytesInParts) {
  const std::string large(4 << 20, 'L');
  const AccessKey key = add(large.data(), large.size());
  answers_.answer_read(read(large.data(), 4 << 20, key, 0));
  EXPECT_EQ(send(), Outcome::kBlocked);
  EXPECT_TRUE(answers_.in_the_middle());
  std::string got = take();
  while (send() != Outcome::kSent) got += take();
  got += take();
  EXPECT_FALSE(answers_.in_the_middle());
  EXPECT_TRUE(got == data(0, 1, large));
}

TEST_F(AnswerSenderTest, ABufferThatIsGoneInTheMiddleEndsIt) {
  const std::string large(4 << 20, 'L');
  const AccessKey key = add(large.data(), large.size());
  answers_.answer_read(read(large.data(), 4 << 20, key, 0));
  EXPECT_EQ(send(), Outcome::kBlocked);
  table_.remove(key);  // waits for nobody: nothing is pinned between two calls
  take();
  EXPECT_EQ(send(), Outcome::kUnregistered);
}

TEST_F(AnswerSenderTest, UnreadableMemoryIsRefusedBeforeItsAnswerLeft) {
  FragileMemory fragile(8192);
  const AccessKey key = add(fragile.data(), 8192);
  ASSERT_TRUE(fragile.damage(Damage::kProtected, 4096, 4096));
  for (const bool careful : {false, true}) {
    answers_.acknowledge(1);
    answers_.answer_read(read(0, 1, 1));
    answers_.answer_read(read(fragile.data() + 4096, 8, key, 2));
    answers_.answer_read(read(1, 1, 3));
    EXPECT_EQ(send(careful), Outcome::kSent);
    const std::string refusal = refused(2, Code::kPermission);
    EXPECT_EQ(take(),
              (careful ? refusal + ack(1) : ack(1) + refusal) + data(1, 1, "a") + data(3, 1, "b"));
  }
  ASSERT_TRUE(fragile.restore());
}

TEST_F(AnswerSenderTest, MemoryThatTurnsUnreadableInTheMiddleEndsIt) {
  constexpr size_t kLength = 4 << 20;
  FragileMemory fragile(kLength);
  const AccessKey key = add(fragile.data(), kLength);
  answers_.answer_read(read(fragile.data(), kLength, key, 0));
  EXPECT_EQ(send(), Outcome::kBlocked);
  ASSERT_TRUE(fragile.damage(Damage::kProtected, 0, kLength));
  take();
  EXPECT_EQ(send(), Outcome::kUnreadable);
  ASSERT_TRUE(fragile.restore());
}

TEST_F(AnswerSenderTest, APeerThatIsGoneEndsIt) {
  sockets_.peers.reset();
  answers_.acknowledge(1);
  EXPECT_EQ(send(), Outcome::kFailed);
  EXPECT_EQ(errno, EPIPE);
}

}  // namespace
}  // namespace te::tcp::test
