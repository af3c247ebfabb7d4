// What a peer may ask, and what it is answered.
#include "support/fragile_memory.h"
#include "transport/responder_harness.h"

namespace te::tcp::test {
namespace {

using te::test::Damage;
using te::test::FragileMemory;

TEST_F(ResponderTest, TheHelloIsAnswered) {
  connect();
  EXPECT_EQ(take(), "");
  responder_->admit(kInstance);
  responder_->admit(kInstance);  // once
  const std::string bytes = take();
  const Result<wire::HelloAnswer> answer = wire::HelloAnswer::decode(as_bytes(bytes));
  ASSERT_TRUE(answer.ok()) << answer.status().to_string();
  EXPECT_EQ(answer->code, Code::kOk);
  EXPECT_EQ(answer->instance, kInstance);
  EXPECT_EQ(answer->window, kWindow);
}

TEST_F(ResponderTest, ARefusalSaysWhyAndEnds) {
  connect();
  responder_->refuse(kInstance, Code::kStale);
  EXPECT_TRUE(ended_);
  const Result<wire::HelloAnswer> answer = wire::HelloAnswer::decode(as_bytes(take()));
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->code, Code::kStale);
  EXPECT_EQ(answer->instance, kInstance);
}

TEST_F(ResponderTest, AWriteIsInPlaceWhenItIsAcknowledged) {
  EXPECT_EQ(exchange(write_frame({entry(10, 5)}, "hello")), ack(1));
  EXPECT_EQ(memory(9, 7), "\xa5hello\xa5");
  EXPECT_FALSE(ended_);
}

TEST_F(ResponderTest, WritesOfOneFrameAreAcknowledgedTogether) {
  EXPECT_EQ(exchange(write_frame({entry(0, 1), entry(kSize - 2, 2), entry(100, 3)}, "abbccc")),
            ack(3));
  EXPECT_EQ(memory(0, 1) + memory(kSize - 2, 2) + memory(100, 3), "abbccc");
  EXPECT_EQ(exchange(write_frame({entry(0, 1)}, "d") + write_frame({entry(0, 1)}, "e")), ack(5));
  EXPECT_EQ(memory(0, 1), "e");
}

TEST_F(ResponderTest, RequestsToMemoryThatCannotBeTouchedAreRefused) {
  constexpr size_t kPage = 4096;
  for (const Damage damage : te::test::kDamages) {
    SCOPED_TRACE(name_of(damage));
    connect();
    responder_->admit(kInstance);
    take();
    FragileMemory fragile(4 * kPage);
    const auto begin = reinterpret_cast<uint64_t>(fragile.data());
    const Result<AccessKey> key = table_.add(begin, 4 * kPage, Rights::kBoth);
    ASSERT_TRUE(key.ok());
    ASSERT_TRUE(fragile.damage(damage, kPage, 3 * kPage));
    const Entry bad{begin + kPage, 64, *key}, halfway{begin + kPage - 32, 64, *key};
    const std::string x(64, 'x');
    EXPECT_EQ(
        exchange(write_frame({entry(0, 3), bad, halfway, entry(30, 3)}, "aaa" + x + x + "ddd")),
        refused(1, Code::kPermission) + refused(2, Code::kPermission) + ack(4));
    EXPECT_EQ(memory(0, 3) + memory(30, 3), "aaaddd");
    const std::string answer = exchange(read_frame({entry(0, 1), bad, halfway, entry(30, 1)}));
    if (damage == Damage::kReadOnly) {
      EXPECT_EQ(answer.substr(0, AnswerHeader::kSize), data(4, 4, ""));
    } else {
      EXPECT_EQ(answer, refused(5, Code::kPermission) + refused(6, Code::kPermission) +
                            data(4, 1, "a") + data(7, 1, "d"));
    }
    EXPECT_FALSE(ended_);
    ASSERT_TRUE(fragile.restore());
    table_.remove(*key);
  }
}

TEST_F(ResponderTest, AnEmptyRequestIsAcknowledged) {
  EXPECT_EQ(exchange(write_frame({}, "")), ack(0));
  EXPECT_EQ(exchange(write_frame({entry(0, 1)}, "a") + write_frame({}, "")), ack(1));
  EXPECT_EQ(exchange(write_frame({}, "")), ack(1));
  EXPECT_EQ(exchange(read_frame({entry(0, 1)})), data(1, 1, "a"));
  EXPECT_FALSE(ended_);
}

TEST_F(ResponderTest, ReadsAreAnsweredTogether) {
  for (size_t i = 0; i < 26; ++i) bytes()[i] = static_cast<char>('a' + i);
  EXPECT_EQ(exchange(read_frame({entry(0, 3), entry(25, 1), entry(10, 4)})),
            data(0, 3, "abczklmn"));
  EXPECT_EQ(exchange(read_frame({entry(1, 1)}) + read_frame({entry(2, 1)})), data(3, 2, "bc"));
}

TEST_F(ResponderTest, AReadSeesTheWritesBeforeIt) {
  EXPECT_EQ(exchange(write_frame({entry(0, 3)}, "new") + read_frame({entry(0, 3)})),
            ack(1) + data(1, 1, "new"));
}

TEST_F(ResponderTest, TheWholeRange) {
  const std::string all(kSize, 'w');
  EXPECT_EQ(exchange(write_frame({entry(0, kSize)}, all)), ack(1));
  EXPECT_EQ(exchange(read_frame({entry(0, kSize)})), data(1, 1, all));
}

TEST_F(ResponderTest, ARefusedWriteIsToldBeforeItsAck) {
  Entry wrong = entry(20, 3);
  wrong.key.secret[15] ^= 1;
  EXPECT_EQ(
      exchange(write_frame({entry(0, 3), wrong, entry(kSize - 1, 2), entry(30, 3)}, "aaabbbccddd")),
      refused(1, Code::kStale) + refused(2, Code::kOutOfRange) + ack(4));
  EXPECT_EQ(memory(0, 3) + memory(30, 3), "aaaddd");
  EXPECT_EQ(memory(20, 3), std::string(3, kUntouched));
  EXPECT_EQ(memory(kSize - 1, 1), std::string(1, kUntouched));
}

TEST_F(ResponderTest, EachDirectionTakesItsRight) {
  for (const Rights rights : {Rights::kNone, Rights::kRead, Rights::kWrite}) {
    std::vector<char> range(64, 'r');
    const auto at = reinterpret_cast<uint64_t>(range.data());
    const AccessKey key = *table_.add(at, range.size(), rights);
    connect();
    responder_->admit(kInstance);
    take();
    const bool writes = rights == Rights::kWrite, reads = rights == Rights::kRead;
    EXPECT_EQ(exchange(write_frame({{at, 3, key}}, "new")),
              (writes ? "" : refused(0, Code::kPermission)) + ack(1));
    EXPECT_EQ(std::string(range.data(), 3), writes ? "new" : "rrr");
    EXPECT_EQ(exchange(read_frame({{at, 3, key}})),
              reads ? data(1, 1, "rrr") : refused(1, Code::kPermission));
    table_.remove(key);
  }
}

TEST_F(ResponderTest, ARefusedReadDoesNotHoldUpOthers) {
  Entry wrong = entry(0, 3);
  ++wrong.key.index;
  bytes()[0] = 'x';
  bytes()[1] = 'y';
  EXPECT_EQ(exchange(read_frame({entry(0, 1), wrong, entry(1, 1)})),
            refused(1, Code::kStale) + data(0, 1, "x") + data(2, 1, "y"));
}

TEST_F(ResponderTest, FramesMayBeSplitAnywhere) {
  const std::string frames = write_frame({entry(0, 5), entry(50, 6)}, "hellothere!") +
                             read_frame({entry(0, 5)}) + write_frame({entry(1, 1)}, "a") +
                             read_frame({entry(0, 2), entry(50, 6)});
  for (size_t split = 0; split <= frames.size(); ++split) {
    connect();
    responder_->admit(kInstance);
    take();
    std::string answers = exchange(frames.substr(0, split));
    answers += exchange(frames.substr(split));
    ASSERT_FALSE(ended_) << split;
    // How far one ack reaches depends on the split; what is answered last does not.
    const std::string last = data(4, 2, "hathere!");
    ASSERT_GE(answers.size(), last.size());
    EXPECT_EQ(answers.substr(answers.size() - last.size()), last) << split;
    EXPECT_NE(answers.find(data(2, 1, "hello").substr(0, AnswerHeader::kSize)), std::string::npos)
        << split;
  }
}

TEST_F(ResponderTest, FramesMayComeByteByByte) {
  const std::string frames = write_frame({entry(0, 5), entry(50, 6)}, "hellothere!") +
                             read_frame({entry(0, 5), entry(50, 6)});
  std::string answers;
  for (const char c : frames) answers += exchange({&c, 1});
  EXPECT_EQ(answers, ack(2) + data(2, 2, "hellothere!"));
}

TEST_F(ResponderTest, ABufferTakenAwayInTheMiddleOfAWriteIsNotTouchedAnyMore) {
  const std::string frame = write_frame({entry(0, 4), entry(10, 4)}, "aaaabbbb");
  EXPECT_EQ(exchange(frame.substr(0, frame.size() - 6)), "");
  EXPECT_EQ(memory(0, 4), "aa\xa5\xa5");
  table_.remove(key_);
  EXPECT_EQ(exchange(frame.substr(frame.size() - 6)),
            refused(0, Code::kStale) + refused(1, Code::kStale) + ack(2));
  EXPECT_EQ(memory(0, 20).find_first_not_of("a\xa5"), std::string::npos);
  EXPECT_EQ(memory(0, 4), "aa\xa5\xa5");
  EXPECT_FALSE(ended_);
}

// More than the sockets hold, so that the answer waits for room.
TEST_F(ResponderTest, AnAnswerWaitsForRoomAndGoesOn) {
  std::vector<char> large(4 << 20, 'L');
  const auto at = reinterpret_cast<uint64_t>(large.data());
  const AccessKey key = *table_.add(at, large.size(), Rights::kBoth);
  put(read_frame({{at, 4 << 20, key}, entry(0, 2)}));
  std::string got;
  for (int turns = 0; got.size() < large.size() + 2 + 2 * AnswerHeader::kSize; ++turns) {
    ASSERT_LT(turns, 10'000);
    pump();
    got += take();
  }
  EXPECT_EQ(got.substr(0, AnswerHeader::kSize), data(0, 1, ""));
  EXPECT_EQ(got.find_first_not_of('L', AnswerHeader::kSize), AnswerHeader::kSize + large.size());
  EXPECT_EQ(got.substr(AnswerHeader::kSize + large.size()), data(1, 1, "\xa5\xa5"));
}

TEST_F(ResponderTest, ABufferTakenAwayInTheMiddleOfAReadEndsTheConnection) {
  std::vector<char> large(4 << 20, 'L');
  const auto at = reinterpret_cast<uint64_t>(large.data());
  const AccessKey key = *table_.add(at, large.size(), Rights::kBoth);
  put(read_frame({{at, 4 << 20, key}}));
  pump();
  EXPECT_FALSE(ended_);
  table_.remove(key);  // waits for nobody: nothing is pinned between two turns
  take();
  pump();
  EXPECT_TRUE(ended_);
}

TEST_F(ResponderTest, LongStreamsOfWritesAreAcknowledgedOnTheWay) {
  const std::string frame = write_frame({entry(0, kSize)}, std::string(kSize, 'w'));
  std::string answers;
  for (int i = 0; i < 400; ++i) {  // 1.6 MiB
    put(frame);
    if (i % 20 == 19) {
      pump();
      answers += take();
    }
  }
  ASSERT_GE(answers.size(), 2 * AnswerHeader::kSize);
  EXPECT_EQ(answers.substr(answers.size() - AnswerHeader::kSize), ack(400));
}

TEST_F(ResponderTest, AsManyReadsAsTheWindowHolds) {
  std::string frames;
  for (uint32_t i = 0; i < kWindow / 128; ++i) {
    frames += read_frame(std::vector<Entry>(128, entry(0, 1)));
  }
  const std::string answers = exchange(frames);
  EXPECT_FALSE(ended_);
  const size_t headers = (answers.size() - kWindow) / AnswerHeader::kSize;
  EXPECT_EQ(answers.size(), kWindow + headers * AnswerHeader::kSize);
}

TEST_F(ResponderTest, StoppingInTheMiddleEndsIt) {
  responder_->end_if_stalled(INT64_MAX);
  EXPECT_FALSE(ended_);  // idle is no stall
  const std::string frame = write_frame({entry(0, 4)}, "aaaa");
  exchange(frame);
  responder_->end_if_stalled(INT64_MAX);
  EXPECT_FALSE(ended_);
  for (const size_t length : {size_t{1}, RequestHeader::kSize, frame.size() - 1}) {
    connect();
    responder_->admit(kInstance);
    exchange(frame.substr(0, length));
    responder_->end_if_stalled(0);
    EXPECT_FALSE(ended_) << length;
    responder_->end_if_stalled(INT64_MAX);
    EXPECT_TRUE(ended_) << length;
  }
}

TEST_F(ResponderTest, APeerThatDoesNotReadItsAnswerIsStalled) {
  std::vector<char> large(4 << 20, 'L');
  const auto at = reinterpret_cast<uint64_t>(large.data());
  const AccessKey key = *table_.add(at, large.size(), Rights::kBoth);
  put(read_frame({{at, 4 << 20, key}}));
  pump();
  responder_->end_if_stalled(INT64_MAX);
  EXPECT_TRUE(ended_);
}

TEST_F(ResponderTest, ThePermitIsHeldAsLongAsTheConnection) {
  auto permit = std::make_shared<int>(1);
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  const Fd client(fds[1]);
  responder_ = std::make_unique<Responder>(*loop_, table_, *this, tls::Connection(Fd(fds[0])),
                                           wire::Hello{}, permit);
  responder_->admit(kInstance);
  EXPECT_EQ(permit.use_count(), 2);
  responder_.reset();
  EXPECT_EQ(permit.use_count(), 1);
}

}  // namespace
}  // namespace te::tcp::test
