// What a lane sends, and what well-behaved answers do.
#include <thread>

#include "support/facts.h"
#include "support/fragile_memory.h"
#include "transport/lane_harness.h"

namespace te::tcp::test {
namespace {

using namespace std::string_literals;

const AccessKey kKey =
    AccessKey::decode(reinterpret_cast<const std::byte*>("IIIIssssssssssssssss"));

TEST_F(LaneTest, AWriteIsSentAndAcknowledged) {
  make_ready();
  std::string local = "hello";
  const Slice& slice = submit(Opcode::kWrite, local, 0x1122334455667788);
  EXPECT_EQ(lane_->load(), 5u);
  EXPECT_EQ(host_.count(), 0u);
  lane_->flush();
  const std::string expected = write_frame({{0x1122334455667788, 5, kKey}}, "hello");
  EXPECT_EQ(take(expected.size()), expected);
  put(ack(1));
  ASSERT_TRUE(host_.wait_for(1));
  EXPECT_EQ(host_.code_of(&slice), Code::kOk);
  EXPECT_EQ(lane_->load(), 0u);
  EXPECT_EQ(broken_, 0);
}

TEST_F(LaneTest, AReadIsSentAndFilled) {
  make_ready();
  std::string local = "....";
  const Slice& slice = submit(Opcode::kRead, local, 0x20);
  lane_->flush();
  const std::string expected = read_frame({{0x20, 4, kKey}});
  EXPECT_EQ(take(expected.size()), expected);
  put(data(0, 1, "data"));
  ASSERT_TRUE(host_.wait_for(1));
  EXPECT_EQ(host_.code_of(&slice), Code::kOk);
  EXPECT_EQ(local, "data");
}

using te::test::Damage;
using te::test::FragileMemory;

// Nothing of their frame has left, so the others of it go on.
TEST_F(LaneTest, WritesOfMemoryThatCannotBeReadFailAlone) {
  for (const Damage damage : {Damage::kProtected, Damage::kUnmapped, Damage::kTruncated}) {
    SCOPED_TRACE(name_of(damage));
    make_ready();
    FragileMemory memory(8192);
    ASSERT_TRUE(memory.damage(damage, 4096, 4096));
    std::string a = "aaa", b = "bb", unused(64, '.');
    const Slice& first = submit(Opcode::kWrite, a, 1);
    Slice& bad = submit(Opcode::kWrite, unused, 2);
    bad.local = memory.data() + 4096 - 8;
    const Slice& last = submit(Opcode::kWrite, b, 3);
    lane_->flush();
    const std::string expected = write_frame({{1, 3, kKey}, {3, 2, kKey}}, "aaabb");
    EXPECT_EQ(take(expected.size()), expected);
    ASSERT_TRUE(host_.wait_for(1));
    EXPECT_EQ(host_.code_of(&bad), Code::kInvalidArgument);
    put(ack(2));
    ASSERT_TRUE(host_.wait_for(3));
    EXPECT_EQ(host_.code_of(&first), Code::kOk);
    EXPECT_EQ(host_.code_of(&last), Code::kOk);
    EXPECT_EQ(lane_->load(), 0u);
    EXPECT_EQ(broken_, 0);
    // Alone in its frame.
    Slice& alone = submit(Opcode::kWrite, unused, 4);
    alone.local = memory.data() + 5000;
    lane_->flush();
    ASSERT_TRUE(host_.wait_for(4));
    EXPECT_EQ(host_.code_of(&alone), Code::kInvalidArgument);
    const Slice& next = submit(Opcode::kWrite, b, 5);
    lane_->flush();
    const std::string more = write_frame({{5, 2, kKey}}, "bb");
    EXPECT_EQ(take(more.size()), more);
    put(ack(3));
    ASSERT_TRUE(host_.wait_for(5));
    EXPECT_EQ(host_.code_of(&next), Code::kOk);
    EXPECT_EQ(broken_, 0);
    ASSERT_TRUE(memory.restore());
    host_.forget();
    lane_->fail(Code::kCancelled);
    turn();
    ready_ = false;
    make_lane();
  }
}

TEST_F(LaneTest, ReadsIntoMemoryThatCannotBeWrittenFailAlone) {
  make_ready();
  FragileMemory memory(8192);
  ASSERT_TRUE(memory.damage(Damage::kReadOnly, 4096, 4096));
  std::string a = "...", b = "..", unused(64, '.');
  const Slice& first = submit(Opcode::kRead, a, 1);
  Slice& bad = submit(Opcode::kRead, unused, 2);
  bad.local = memory.data() + 4096;
  const Slice& last = submit(Opcode::kRead, b, 3);
  lane_->flush();
  const std::string expected = read_frame({{1, 3, kKey}, {2, 64, kKey}, {3, 2, kKey}});
  EXPECT_EQ(take(expected.size()), expected);
  put(data(0, 3, "aaa" + std::string(64, 'x') + "bb"));
  ASSERT_TRUE(host_.wait_for(3));
  EXPECT_EQ(host_.code_of(&first), Code::kOk);
  EXPECT_EQ(host_.code_of(&bad), Code::kInvalidArgument);
  EXPECT_EQ(host_.code_of(&last), Code::kOk);
  EXPECT_EQ(a + b, "aaabb");
  EXPECT_EQ(broken_, 0);
  ASSERT_TRUE(memory.restore());
}

TEST_F(LaneTest, AnEmptyRequestAsksForAnAnswer) {
  make_ready();
  lane_->ask();
  EXPECT_EQ(take(RequestHeader::kSize), write_frame({}, ""));
  EXPECT_EQ(lane_->acks(), 0u);
  put(ack(0));
  EXPECT_TRUE(te::test::eventually([&] { return lane_->acks() == 1; }));
  // Behind what waits, without a number of its own.
  std::string w = "w";
  const Slice& slice = submit(Opcode::kWrite, w, 1);
  lane_->ask();
  const std::string expected = write_frame({{1, 1, kKey}}, "w") + write_frame({}, "");
  EXPECT_EQ(take(expected.size()), expected);
  put(ack(1) + ack(1));
  ASSERT_TRUE(host_.wait_for(1));
  EXPECT_EQ(host_.code_of(&slice), Code::kOk);
  EXPECT_TRUE(te::test::eventually([&] { return lane_->acks() == 3; }));
  EXPECT_EQ(broken_, 0);
}

TEST_F(LaneTest, RequestsOfOneKindShareAFrame) {
  make_ready();
  std::string w1 = "1", w2 = "22", r1 = ".", r2 = "..", w3 = "333";
  submit(Opcode::kWrite, w1, 1);
  submit(Opcode::kWrite, w2, 2);
  submit(Opcode::kRead, r1, 3);
  submit(Opcode::kRead, r2, 4);
  submit(Opcode::kWrite, w3, 5);
  lane_->flush();
  const std::string expected = write_frame({{1, 1, kKey}, {2, 2, kKey}}, "122") +
                               read_frame({{3, 1, kKey}, {4, 2, kKey}}) +
                               write_frame({{5, 3, kKey}}, "333");
  EXPECT_EQ(take(expected.size()), expected);
  put(ack(2) + data(2, 2, "abb") + ack(5));
  ASSERT_TRUE(host_.wait_for(5));
  for (const auto& request : requests_) EXPECT_EQ(host_.code_of(&request->slice), Code::kOk);
  EXPECT_EQ(r1 + r2, "abb");
}

TEST_F(LaneTest, AnswersMayComeByteByByte) {
  make_ready();
  std::string w = "ww", r1 = "..", r2 = "...", r3 = ".";
  submit(Opcode::kWrite, w);
  submit(Opcode::kRead, r1);
  submit(Opcode::kRead, r2);
  submit(Opcode::kRead, r3);
  lane_->flush();
  const std::string answers =
      ack(1) + refused(2, Code::kOutOfRange) + data(1, 1, "ab") + data(3, 1, "c");
  for (size_t i = 0; i < answers.size(); ++i) {
    EXPECT_LT(host_.count(), 4u);
    put({&answers[i], 1});
    settle();
  }
  ASSERT_TRUE(host_.wait_for(4));
  EXPECT_EQ(host_.code_of(&requests_[0]->slice), Code::kOk);
  EXPECT_EQ(host_.code_of(&requests_[1]->slice), Code::kOk);
  EXPECT_EQ(host_.code_of(&requests_[2]->slice), Code::kOutOfRange);
  EXPECT_EQ(host_.code_of(&requests_[3]->slice), Code::kOk);
  EXPECT_EQ(r1 + r2 + r3, "ab...c");
  EXPECT_EQ(broken_, 0);
}

TEST_F(LaneTest, ReadsOfOneAnswerEndOneByOne) {
  make_ready();
  std::string r1 = "..", r2 = "..";
  submit(Opcode::kRead, r1);
  submit(Opcode::kRead, r2);
  lane_->flush();
  put(data(0, 2, "aab"));
  ASSERT_TRUE(host_.wait_for(1));
  EXPECT_EQ(host_.code_of(&requests_[0]->slice), Code::kOk);
  settle();
  EXPECT_EQ(host_.count(), 1u);
  put("b");
  ASSERT_TRUE(host_.wait_for(2));
  EXPECT_EQ(r1 + r2, "aabb");
}

TEST_F(LaneTest, ARefusedWriteAmongOthers) {
  make_ready();
  std::string w = "w";
  for (int i = 0; i < 3; ++i) submit(Opcode::kWrite, w);
  lane_->flush();
  put(refused(1, Code::kPermission) + ack(3));
  ASSERT_TRUE(host_.wait_for(3));
  EXPECT_EQ(host_.code_of(&requests_[0]->slice), Code::kOk);
  EXPECT_EQ(host_.code_of(&requests_[1]->slice), Code::kPermission);
  EXPECT_EQ(host_.code_of(&requests_[2]->slice), Code::kOk);
}

TEST_F(LaneTest, NoMoreThanTheWindowIsOutstanding) {
  make_ready();
  std::string local(1, '.');
  constexpr size_t kAll = kWindow + 300;
  for (size_t i = 0; i < kAll; ++i) submit(Opcode::kRead, local, i);
  lane_->flush();
  const auto wire_size = [](size_t requests) {
    const size_t frames = (requests + kMaxRequestsPerFrame - 1) / kMaxRequestsPerFrame;
    return frames * RequestHeader::kSize + requests * RequestEntry::kSize;
  };
  EXPECT_EQ(take(wire_size(kWindow)).size(), wire_size(kWindow));
  turn();
  pollfd entry{peer_.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, 0), 0);
  put(data(0, 300, std::string(300, 'x')));
  EXPECT_EQ(take(wire_size(300)).size(), wire_size(300));
  put(data(300, kWindow, std::string(kWindow, 'y')));
  EXPECT_TRUE(host_.wait_for(kAll));
  EXPECT_EQ(broken_, 0);
}

TEST_F(LaneTest, ThePeersWindowIsKept) {
  connect();
  wire::HelloAnswer answer;
  answer.window = 2;
  const auto bytes = answer.encode();
  put({bytes.data(), bytes.size()});
  ASSERT_TRUE(wait_until([this] { return ready_.load(); }));
  std::string local(1, '.');
  for (size_t i = 0; i < 3; ++i) submit(Opcode::kRead, local, i);
  lane_->flush();
  const size_t two = RequestHeader::kSize + 2 * RequestEntry::kSize;
  EXPECT_EQ(take(two).size(), two);
  turn();
  pollfd entry{peer_.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, 0), 0);
  put(data(0, 1, "x"));
  const size_t one = RequestHeader::kSize + RequestEntry::kSize;
  EXPECT_EQ(take(one).size(), one);
  put(data(1, 2, "yz"));
  EXPECT_TRUE(host_.wait_for(3));
}

TEST_F(LaneTest, APeerThatAllowsNothingIsOfNoUse) {
  connect();
  wire::HelloAnswer answer;
  answer.window = 0;
  const auto bytes = answer.encode();
  put({bytes.data(), bytes.size()});
  EXPECT_TRUE(wait_until([this] { return broken_.load() == 1; }));
  EXPECT_FALSE(ready_.load());
}

TEST_F(LaneTest, ACallerTakesTheAnswersWhileTheLaneIsDetached) {
  make_ready();
  lane_->detach();
  turn();
  std::string local(5, '.');
  submit(Opcode::kRead, local);
  lane_->flush();
  put(data(0, 1, "hello"));
  turn();
  EXPECT_EQ(host_.code_of(&requests_[0]->slice), Code::kInternal);  // still under way
  pollfd entry{lane_->descriptor(), POLLIN, 0};
  ASSERT_EQ(::poll(&entry, 1, 20'000), 1);
  EXPECT_TRUE(lane_->take_answers());
  EXPECT_EQ(local, "hello");
  EXPECT_FALSE(lane_->take_answers());
}

TEST_F(LaneTest, WhatCameWhileItWasDetachedIsTakenByTheLoopAfterwards) {
  make_ready();
  lane_->detach();
  std::string local(5, '.');
  submit(Opcode::kRead, local);
  lane_->flush();
  put(data(0, 1, "hello"));
  lane_->attach();
  EXPECT_TRUE(host_.wait_for(1));
  EXPECT_EQ(local, "hello");
}

TEST_F(LaneTest, AFullSocketIsWaitedFor) {
  make_ready();
  std::string local(4 << 20, 'L');
  const Slice& slice = submit(Opcode::kWrite, local);
  lane_->flush();  // returns though nobody reads
  const std::string head = write_frame({{0x1000, 4 << 20, kKey}}, "");
  const std::string got = take(head.size() + local.size());
  ASSERT_EQ(got.size(), head.size() + local.size());
  EXPECT_EQ(got.find_first_not_of('L', head.size()), std::string::npos);
  put(ack(1));
  ASSERT_TRUE(host_.wait_for(1));
  EXPECT_EQ(host_.code_of(&slice), Code::kOk);
}

TEST_F(LaneTest, ManyThreadsMayFlush) {
  make_ready();
  constexpr size_t kThreads = 4, kEach = 200;
  std::string local(3, '.');
  std::vector<std::unique_ptr<Request>> requests;
  for (size_t i = 0; i < kThreads * kEach; ++i) {
    requests.push_back(std::make_unique<Request>(Opcode::kRead, local, i));
  }
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < kEach; ++i) {
        SliceList list;
        list.push(&requests[t * kEach + i]->slice);
        EXPECT_TRUE(lane_->enqueue(list, 3));
        i % 2 == 0 ? lane_->flush() : lane_->flush_later();
      }
    });
  }
  size_t answered = 0;
  while (answered < kThreads * kEach) {
    const std::string head = take(RequestHeader::kSize);
    ASSERT_EQ(head.size(), RequestHeader::kSize);
    const RequestHeader header = RequestHeader::decode(as_bytes(head).data());
    ASSERT_TRUE(header.valid());
    take(header.count * RequestEntry::kSize);
    put(data(answered, header.count, std::string(header.count * 3, 'x')));
    answered += header.count;
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(host_.wait_for(kThreads * kEach));
  EXPECT_EQ(lane_->load(), 0u);
  EXPECT_EQ(broken_, 0);
  requests_ = std::move(requests);
}

TEST_F(LaneTest, SweepReturnsWhatIsQueued) {
  std::string local(1, '.');
  make_ready();  // and nobody flushes, so nothing leaves
  submit(Opcode::kWrite, local);
  submit(Opcode::kWrite, local);
  cancel(0);
  lane_->sweep();
  ASSERT_TRUE(host_.wait_for(1));
  EXPECT_EQ(host_.code_of(&requests_[0]->slice), Code::kCancelled);
  EXPECT_EQ(lane_->load(), 1u);
  lane_->flush();
  put(ack(1));
  ASSERT_TRUE(host_.wait_for(2));
  EXPECT_EQ(host_.code_of(&requests_[1]->slice), Code::kOk);
}

// Its bytes come after all, and go nowhere.
TEST_F(LaneTest, ACancelledReadIsGivenBackAtOnceAndLeftAlone) {
  make_ready();
  std::string r1 = "....", r2 = "....", r3 = "....";
  submit(Opcode::kRead, r1);
  submit(Opcode::kRead, r2);
  submit(Opcode::kRead, r3);
  lane_->flush();
  put(data(0, 3, "aaaabb"));  // the second is half there
  ASSERT_TRUE(host_.wait_for(1));
  settle();
  cancel(1);
  cancel(2);
  lane_->sweep();
  ASSERT_TRUE(host_.wait_for(3));
  EXPECT_EQ(host_.code_of(&requests_[1]->slice), Code::kCancelled);
  EXPECT_EQ(host_.code_of(&requests_[2]->slice), Code::kCancelled);
  const std::string before = r2 + r3;
  put("bbcccc");
  std::string r4 = ".";
  submit(Opcode::kRead, r4);
  lane_->flush();
  put(data(3, 1, "d"));
  ASSERT_TRUE(host_.wait_for(4));
  EXPECT_EQ(r2 + r3, before);
  EXPECT_EQ(r1 + r4, "aaaad");
  EXPECT_EQ(broken_, 0);
  EXPECT_EQ(lane_->load(), 0u);
}

TEST_F(LaneTest, ACancelledWriteThatIsNotAnsweredEndsTheConnection) {
  make_ready();
  std::string local = "w";
  submit(Opcode::kWrite, local);
  lane_->flush();
  cancel(0);
  lane_->sweep();
  turn();
  EXPECT_EQ(host_.count(), 0u);  // it may still be read from here
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  lane_->sweep();
  ASSERT_TRUE(host_.wait_for(1));
  expect_broken("given up");
}

// Answers to others are no reason to wait for it.
TEST_F(LaneTest, ACancelledWriteIsNotWaitedForLongThoughAnswersCome) {
  make_ready();
  std::string local = "w";
  for (int i = 0; i < 40; ++i) submit(Opcode::kWrite, local);
  lane_->flush();
  cancel(39);
  uint64_t answered = 0;
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (broken_ == 0 && std::chrono::steady_clock::now() < until) {
    lane_->sweep();
    // It may have ended by now.
    const std::string bytes = answered < 38 ? ack(++answered) : "";
    (void)!::send(peer_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  expect_broken("given up");
  EXPECT_LT(answered, 38u);
}

TEST_F(LaneTest, FailReturnsEverythingOnce) {
  make_ready();
  std::string local(8, '.');
  for (int i = 0; i < 5; ++i) submit(i % 2 == 0 ? Opcode::kRead : Opcode::kWrite, local);
  lane_->flush();
  submit(Opcode::kRead, local);
  submit(Opcode::kWrite, local);
  put(data(0, 1, "xxxx"));
  settle();
  lane_->fail(Code::kStale);
  lane_->fail(Code::kUnavailable);
  ASSERT_TRUE(host_.wait_for(7));
  for (const auto& request : requests_) EXPECT_EQ(host_.code_of(&request->slice), Code::kStale);
  EXPECT_EQ(lane_->load(), 0u);
  turn();
  Request late(Opcode::kRead, local, 1);
  SliceList list;
  list.push(&late.slice);
  EXPECT_FALSE(lane_->enqueue(list, 8));
  EXPECT_FALSE(list.empty());
  EXPECT_EQ(broken_, 0);
}

TEST_F(LaneTest, APeerThatClosesBreaksIt) {
  make_ready();
  std::string r1 = "....", r2 = "....";
  submit(Opcode::kRead, r1);
  submit(Opcode::kRead, r2);
  lane_->flush();
  put(data(0, 2, "aaaabb"));
  peer_.reset();
  ASSERT_TRUE(host_.wait_for(2));
  expect_broken("tcp to the peer: ");
  EXPECT_EQ(host_.code_of(&requests_[0]->slice), Code::kOk);
  EXPECT_EQ(host_.code_of(&requests_[1]->slice), Code::kUnavailable);
}

TEST_F(LaneTest, ARefusedHelloIsExplained) {
  connect();
  wire::HelloAnswer answer;
  answer.code = Code::kStale;
  const auto bytes = answer.encode();
  put({bytes.data(), bytes.size()});
  expect_broken("another run");
  EXPECT_EQ(why().code(), Code::kStale);
  EXPECT_FALSE(ready_);
}

TEST_F(LaneTest, TheAnswerToTheHelloMayComeByteByByte) {
  connect();
  wire::HelloAnswer answer;
  answer.window = kWindow;
  const auto bytes = answer.encode();
  for (const char& c : bytes) {
    EXPECT_FALSE(ready_);
    put({&c, 1});
    settle();
  }
  EXPECT_TRUE(wait_until([this] { return ready_.load(); }));
}

TEST_F(LaneTest, ClosingBeforeTheAnswerBreaksItAfterAFewAttempts) {
  connect();
  peer_.reset();
  for (int again = 0; again < 5; ++again) {
    accept_peer();
    EXPECT_EQ(broken_, 0);
    peer_.reset();
  }
  expect_broken("before it answered");
}

TEST_F(LaneTest, ABusyPeerIsAskedAgain) {
  connect();
  for (int again = 0; again < 3; ++again) {
    answer_hello(Code::kBusy);
    peer_.reset();
    accept_peer();
  }
  answer_hello();
  EXPECT_TRUE(wait_until([this] { return ready_.load(); }));
  EXPECT_EQ(broken_, 0);
}

TEST_F(LaneTest, APeerThatStaysBusyBreaksItAfterTheTimeToConnect) {
  make_lane(200);
  connect();
  for (const int64_t until_ns = now_ns() + 20'000 * kNsPerMs;
       broken_ == 0 && now_ns() < until_ns;) {
    answer_hello(Code::kBusy);
    peer_.reset();
    pollfd entry{listener_.get(), POLLIN, 0};
    if (::poll(&entry, 1, 500) == 1) accept_peer();
    if (!peer_.valid()) break;
  }
  expect_broken("busy");
}

TEST_F(LaneTest, SilenceEndsTheConnectionAttempt) {
  make_lane(30);
  connect();
  expect_broken("connect_timeout_ms");
}

TEST_F(LaneTest, NobodyThereBreaksIt) {
  listener_.reset();
  lane_->connect(address_, hello_);
  expect_broken("Connection refused");
  EXPECT_EQ(why().code(), Code::kUnavailable);
}

}  // namespace
}  // namespace te::tcp::test
