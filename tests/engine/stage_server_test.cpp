// The target's side of staging, asked as a peer asks it, right and wrong.
#include "engine/stage_server.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <thread>

#include "engine/pair.h"
#include "support/fake_memory.h"
#include "transport/fakes.h"

namespace te::test {
namespace {

class StageServerTest : public testing::Test {
 protected:
  static constexpr uint64_t kPart = 4096;
  static constexpr uint64_t kSize = 4 * kPart;

  StageServerTest() { config_.staging_part_bytes = kPart; }
  // `idle_ns`: when leases may be ended for others.
  void start(int64_t idle_ns = StageServer::kIdleNs) {
    memory_ = std::make_unique<Memory>(1, config_, transports_);
    server_ = std::make_shared<StageServer>(config_, *memory_, idle_ns);
    transports_.add(server_, false);
    ASSERT_TRUE(add(fake_.data(), Access::kReadWrite).ok());
    stamp(fake_.view(), kSize, 1);
  }
  Status add(std::byte* at, Access access) {
    const BufferEntry entry{at, kSize};
    return memory_->add({&entry, 1}, "*", access);
  }
  AccessKey key_of(const std::byte* at) {
    ReaderLock lock(memory_->mutex());
    const Buffer* buffer = memory_->registry().find(reinterpret_cast<uint64_t>(at));
    const auto key = buffer->keys.find(stage::kName);
    if (key == buffer->keys.end()) return {};
    return AccessKey::decode(as_bytes(key->second).data());
  }
  Result<Bytes> ask(const stage::Hello& hello, Rights rights = Rights::kBoth) {
    return server_->accept(stage::encode(hello), rights);
  }
  std::byte* open(uint64_t lease, uint32_t parts = 2) {
    const Result<Bytes> answer = ask(stage::Open{lease, parts, kPart});
    EXPECT_TRUE(answer.ok()) << answer.status().to_string();
    if (!answer.ok()) return nullptr;
    return reinterpret_cast<std::byte*>(stage::decode_answer(as_bytes(*answer))->address);
  }
  stage::Copy copy(uint64_t lease, uint64_t sequence, bool into_part) {
    return {lease,
            sequence,
            0,
            into_part,
            {{reinterpret_cast<uint64_t>(fake_.data()), kPart, key_of(fake_.data())}}};
  }

  FakeMemoryDriver driver_;
  FakeMemory fake_{driver_, kSize};
  RecordingHost host_;
  Config config_;
  Transports transports_{host_, config_, {}};
  std::unique_ptr<Memory> memory_;
  std::shared_ptr<StageServer> server_;
};

TEST_F(StageServerTest, CopiesBothWays) {
  start();
  std::byte* const part = open(7);
  ASSERT_NE(part, nullptr);
  ASSERT_TRUE(ask(copy(7, 1, true)).ok());
  EXPECT_EQ(std::memcmp(part, fake_.view(), kPart), 0);
  stage::Copy out = copy(7, 2, false);
  out.part = 1;
  out.ranges[0].address += kPart;
  stamp(part + kPart, kPart, 9);
  ASSERT_TRUE(ask(out).ok());
  EXPECT_EQ(difference(fake_.view() + kPart, kPart, 9), kSame);
  EXPECT_EQ(open(7), part) << "asked twice, it is the same lease";
  EXPECT_EQ(server_->leased_bytes(), 2 * kPart);
}

// The exchange that brings it may come twice; in between the application may have written.
TEST_F(StageServerTest, ACopyThatComesTwiceIsMadeOnce) {
  start();
  std::byte* const part = open(7);
  ASSERT_NE(part, nullptr);
  stamp(part, kPart, 5);
  ASSERT_TRUE(ask(copy(7, 4, false)).ok());
  ASSERT_EQ(difference(fake_.view(), kPart, 5), kSame);
  stamp(fake_.view(), kPart, 6);
  EXPECT_TRUE(ask(copy(7, 4, false)).ok());
  EXPECT_EQ(ask(copy(7, 3, false)).code(), Code::kStale);
  EXPECT_EQ(difference(fake_.view(), kPart, 6), kSame) << "an old copy was made again";
}

// Two are asked for at once, and may come in any order.
TEST_F(StageServerTest, CopiesOfOtherPartsHaveSequencesOfTheirOwn) {
  start();
  ASSERT_NE(open(7), nullptr);
  ASSERT_TRUE(ask(copy(7, 4, true)).ok());
  stage::Copy other = copy(7, 3, true);
  other.part = 1;
  EXPECT_TRUE(ask(other).ok());
  EXPECT_EQ(driver_.copies.load(), 2u);
  EXPECT_TRUE(ask(other).ok());
  EXPECT_EQ(driver_.copies.load(), 2u);
}

TEST_F(StageServerTest, AFailureThatIsAskedForTwiceStaysOne) {
  start();
  ASSERT_NE(open(7), nullptr);
  driver_.fails_after = 0;
  EXPECT_EQ(ask(copy(7, 1, true)).code(), Code::kPermission);
  driver_.fails_after = UINT64_MAX;
  const Status again = ask(copy(7, 1, true)).status();
  EXPECT_TRUE(fails_with(again, Code::kPermission, "on fire"));
  EXPECT_TRUE(ask(copy(7, 2, true)).ok());
}

TEST_F(StageServerTest, ChecksKeyRangeDirectionAndPart) {
  start();
  ASSERT_NE(open(7), nullptr);
  stage::Copy wrong = copy(7, 1, true);
  wrong.ranges[0].key.secret[3] ^= 1;
  EXPECT_EQ(ask(wrong).code(), Code::kStale);
  wrong = copy(7, 2, true);
  wrong.ranges[0].address += kSize - kPart + 1;
  EXPECT_EQ(ask(wrong).code(), Code::kOutOfRange);
  wrong = copy(7, 3, true);
  wrong.part = 2;
  EXPECT_EQ(ask(wrong).code(), Code::kProtocol);
  wrong = copy(7, 3, true);
  wrong.ranges[0].length = kPart + 1;
  EXPECT_EQ(ask(wrong).code(), Code::kProtocol);
  EXPECT_EQ(ask(copy(8, 1, true)).code(), Code::kStale) << "nobody leased it";
  EXPECT_EQ(server_->accept("?", Rights::kBoth).code(), Code::kProtocol);
  EXPECT_EQ(driver_.copies.load(), 0u);

  FakeMemory read_only(driver_, kSize);
  ASSERT_TRUE(add(read_only.data(), Access::kRead).ok());
  stage::Copy into = copy(7, 4, false);
  into.ranges[0].address = reinterpret_cast<uint64_t>(read_only.data());
  into.ranges[0].key = key_of(read_only.data());
  EXPECT_EQ(ask(into).code(), Code::kPermission);
  into.sequence = 5;
  into.into_part = true;
  EXPECT_TRUE(ask(into).ok());
}

TEST_F(StageServerTest, ChecksWhatThePeerMayDo) {
  start();
  ASSERT_NE(open(7), nullptr);
  EXPECT_TRUE(fails_with(ask(copy(7, 1, true), Rights::kWrite).status(), Code::kPermission,
                         "tls_policy lets the peer WRITE"));
  EXPECT_EQ(ask(copy(7, 1, false), Rights::kRead).code(), Code::kPermission);
  EXPECT_EQ(driver_.copies.load(), 0u);
  EXPECT_TRUE(ask(copy(7, 1, true), Rights::kRead).ok());
  EXPECT_TRUE(ask(copy(7, 2, false), Rights::kWrite).ok());
}

TEST_F(StageServerTest, HostMemoryAndPrivateMemoryHaveNoKey) {
  start();
  std::vector<std::byte> host(kSize);
  ASSERT_TRUE(add(host.data(), Access::kReadWrite).ok());
  EXPECT_EQ(key_of(host.data()).secret, AccessKey().secret);
  FakeMemory closed(driver_, kSize);
  ASSERT_TRUE(add(closed.data(), Access::kNone).ok());
  EXPECT_EQ(key_of(closed.data()).secret, AccessKey().secret);
  EXPECT_NE(key_of(fake_.data()).secret, AccessKey().secret);
}

TEST_F(StageServerTest, AfterACloseNothingIsCopiedAndTheMemoryIsGone) {
  start();
  ASSERT_NE(open(7), nullptr);
  driver_.takes_ms = 100;
  std::thread slow([this] { EXPECT_TRUE(ask(copy(7, 1, false)).ok()); });
  EXPECT_TRUE(eventually([this] { return driver_.under_way.load() == 1; }));
  ASSERT_TRUE(ask(stage::Close{7}).ok());
  EXPECT_EQ(driver_.under_way.load(), 0) << "it was answered in the middle of a copy";
  slow.join();
  EXPECT_EQ(server_->leased_bytes(), 0u);
  EXPECT_EQ(ask(copy(7, 2, false)).code(), Code::kStale);
  EXPECT_TRUE(ask(stage::Close{7}).ok()) << "asked twice";
  // The exchange that opened it may come once more.
  EXPECT_EQ(ask(stage::Open{7, 2, kPart}).code(), Code::kStale);
  EXPECT_EQ(server_->leased_bytes(), 0u);
}

TEST_F(StageServerTest, LeasesHaveALimit) {
  config_.staging_bytes = 4 * kPart;
  start();
  ASSERT_NE(open(1), nullptr);
  ASSERT_NE(open(2), nullptr);
  const Result<Bytes> third = ask(stage::Open{3, 1, kPart});
  EXPECT_TRUE(fails_with(third.status(), Code::kBusy, "staging_bytes"));
  ASSERT_TRUE(ask(stage::Close{1}).ok());
  EXPECT_NE(open(3, 1), nullptr);
  EXPECT_EQ(server_->leased_bytes(), 3 * kPart);
}

TEST_F(StageServerTest, AnIdleLeaseEndsForAnotherOne) {
  config_.staging_bytes = 4 * kPart;
  start(0);
  ASSERT_NE(open(1), nullptr);
  ASSERT_NE(open(2), nullptr);
  ASSERT_TRUE(ask(copy(1, 1, true)).ok());
  ASSERT_NE(open(3), nullptr);
  EXPECT_EQ(ask(copy(2, 1, true)).code(), Code::kStale) << "the one that was idle longest";
  EXPECT_TRUE(ask(copy(1, 2, true)).ok());
  EXPECT_EQ(server_->leased_bytes(), 4 * kPart);
  EXPECT_EQ(ask(stage::Open{4, 5, kPart}).code(), Code::kBusy) << "more than there may be in all";
  EXPECT_TRUE(ask(copy(3, 1, true)).ok()) << "another ended for nothing";
}

TEST_F(StageServerTest, UnregisteringWaitsForTheCopyUnderWay) {
  start();
  ASSERT_NE(open(7), nullptr);
  driver_.takes_ms = 100;
  std::thread slow([this] { EXPECT_TRUE(ask(copy(7, 1, true)).ok()); });
  EXPECT_TRUE(eventually([this] { return driver_.under_way.load() == 1; }));
  void* const address = fake_.data();
  ASSERT_TRUE(memory_->remove({&address, 1}).ok());
  EXPECT_EQ(driver_.under_way.load(), 0);
  slow.join();
}

}  // namespace
}  // namespace te::test
