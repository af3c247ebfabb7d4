// Memory on devices between two processes: which blocks there are, what initiators have open, and
// peers that say something else.
#include <gtest/gtest.h>

#include <thread>

#include "support/facts.h"
#include "transport/hostile_shm.h"

namespace te::shm {
namespace {

using test::eventually;

constexpr uint64_t kBlock = 0x1000;

// Blocks of kBlock bytes from kBegin on; it counts what it has open.
class FakeDevice final : public DeviceMemory, public std::enable_shared_from_this<FakeDevice> {
 public:
  static constexpr uint64_t kBegin = 0x100000;

  explicit FakeDevice(uint64_t length = kBlock, uint64_t id = 1) : length_(length), id_(id) {}

  MemoryKind kind() const override { return MemoryKind::kCuda; }
  Result<std::unique_ptr<PendingCopies>> start(std::span<const MemoryCopy>) const override {
    return Status(Code::kUnsupported, "it copies nothing");
  }
  Result<std::vector<MemoryBlock>> blocks() const override {
    if (!has_handles) return Status(Code::kUnsupported, "without handles");
    std::vector<MemoryBlock> blocks;
    for (uint64_t at = 0; at < length_; at += kBlock) blocks.push_back({kBegin + at, kBlock, id_});
    return blocks;
  }
  Result<std::shared_ptr<const OpenedBlock>> own_block(uint64_t begin, uint64_t) const override {
    ++opens;
    if (!opens_any) return Status(Code::kUnsupported, "it opens nothing");
    return std::shared_ptr<const OpenedBlock>(std::make_shared<Opened>(shared_from_this(), begin));
  }

  bool has_handles = true, opens_any = true;
  mutable std::atomic<int> opens{0}, open{0};

 private:
  class Opened final : public OpenedBlock {
   public:
    Opened(std::shared_ptr<const FakeDevice> owner, uint64_t begin)
        : owner_(std::move(owner)), begin_(begin) {
      ++owner_->open;
    }
    ~Opened() override { --owner_->open; }
    std::byte* data() const override { return reinterpret_cast<std::byte*>(begin_); }
    std::shared_ptr<const void> use() const override { return owner_; }

   private:
    const std::shared_ptr<const FakeDevice> owner_;
    const uint64_t begin_;
  };

  const uint64_t length_, id_;
};

void describe(Buffer& buffer, std::shared_ptr<const DeviceMemory> device, uint64_t at,
              uint64_t length) {
  buffer.address = FakeDevice::kBegin + at;
  buffer.length = length;
  buffer.kind = MemoryKind::kCuda;
  buffer.device = std::move(device);
}

RangeKey add(BlockTable& blocks, const std::shared_ptr<FakeDevice>& device, uint64_t at,
             uint64_t length) {
  Buffer buffer;
  describe(buffer, device, at, length);
  const Result<RangeKey> key = blocks.add(buffer);
  EXPECT_TRUE(key.ok()) << key.status().to_string();
  return key.ok() ? *key : RangeKey{};
}

class BlockTableTest : public testing::Test {
 protected:
  RangeKey key_of(const RangeKey& range, uint64_t at) {
    const Result<BlockTable::Found> found =
        blocks_.find(range.index, range.generation, FakeDevice::kBegin + at);
    EXPECT_TRUE(found.ok()) << found.status().to_string();
    return found.ok() ? found->key : RangeKey{};
  }

  const std::unique_ptr<RangeTable> table_ = RangeTable::create().take();
  const RangeView view_{Mapping::map(table_->fd(), kTableBytes, false).take()};
  BlockTable blocks_{*table_};
};

TEST_F(BlockTableTest, RangesOfABlockShareItAndTheLastTakesItAlong) {
  const auto device = std::make_shared<FakeDevice>();
  const RangeKey first = add(blocks_, device, 0, 16), second = add(blocks_, device, 64, 16);
  const RangeKey block = key_of(first, 0);
  EXPECT_EQ(key_of(second, 70), block);
  ASSERT_NE(view_.find(block), nullptr);
  EXPECT_EQ(view_.find(block)->rights, 0u) << "whoever knows the block's key may touch it";
  EXPECT_EQ(view_.find(block)->length, kBlock);
  EXPECT_FALSE(blocks_.remove(first));
  EXPECT_EQ(view_.find(first), nullptr);
  EXPECT_NE(view_.find(block), nullptr);
  EXPECT_TRUE(blocks_.remove(second));
  EXPECT_EQ(view_.find(block), nullptr);
  EXPECT_FALSE(blocks_.remove(second)) << "twice";
  EXPECT_EQ(device.use_count(), 1) << "it is kept";
}

TEST_F(BlockTableTest, EachChunkIsABlock) {
  const auto device = std::make_shared<FakeDevice>(3 * kBlock);
  const RangeKey range = add(blocks_, device, 10, 2 * kBlock);
  EXPECT_NE(key_of(range, 10), key_of(range, kBlock));
  EXPECT_EQ(key_of(range, kBlock), key_of(range, 2 * kBlock - 1));
  for (const uint64_t at : {uint64_t{0}, uint64_t{9}, 2 * kBlock + 10, UINT64_MAX / 2}) {
    EXPECT_EQ(blocks_.find(range.index, range.generation, FakeDevice::kBegin + at).code(),
              Code::kOutOfRange)
        << at;
  }
  EXPECT_EQ(blocks_.find(range.index, range.generation + 1, FakeDevice::kBegin + 10).code(),
            Code::kStale);
  EXPECT_TRUE(blocks_.remove(range));
}

TEST_F(BlockTableTest, AnAddressThatIsUsedAgainIsAnotherBlock) {
  const auto before = std::make_shared<FakeDevice>(kBlock, 1);
  const auto now = std::make_shared<FakeDevice>(kBlock, 2);
  const RangeKey old_range = add(blocks_, before, 0, 16), new_range = add(blocks_, now, 32, 16);
  EXPECT_NE(key_of(old_range, 0), key_of(new_range, 32));
  EXPECT_TRUE(blocks_.remove(old_range));
  EXPECT_TRUE(blocks_.remove(new_range));
}

TEST_F(BlockTableTest, WhereTheTableIsFullNothingStays) {
  Buffer filler;
  filler.address = 0x1000;
  filler.length = 16;
  for (uint32_t i = 0; i + 2 < kMaxRanges; ++i) ASSERT_TRUE(table_->add(filler).ok());
  const auto device = std::make_shared<FakeDevice>(2 * kBlock);
  Buffer buffer;
  describe(buffer, device, 0, 2 * kBlock);
  EXPECT_EQ(blocks_.add(buffer).code(), Code::kBusy) << "two blocks and a range";
  EXPECT_EQ(device.use_count(), 2) << "it is kept";
  EXPECT_TRUE(table_->add(filler).ok());
  EXPECT_TRUE(table_->add(filler).ok());
  EXPECT_EQ(table_->add(filler).code(), Code::kBusy);
}

TEST_F(BlockTableTest, MemoryWithoutHandlesIsRefusedWithTheReason) {
  const auto device = std::make_shared<FakeDevice>();
  device->has_handles = false;
  Buffer buffer;
  describe(buffer, device, 0, 16);
  const Result<RangeKey> key = blocks_.add(buffer);
  EXPECT_EQ(key.code(), Code::kUnsupported);
  EXPECT_EQ(key.status().message(), "without handles");
}

// A target that shares its table, and answers questions about blocks as the test says.
class HostileBlocks : public HostileTarget {
 protected:
  void SetUp() override {
    Result<std::shared_ptr<Link>> connected = connect([this](int socket) {
      (void)send_message(socket, welcome(advertisement_.cookie.data()), table_->fd());
    });
    ASSERT_TRUE(connected.ok());
    link_ = connected.take();
    ASSERT_TRUE(link_
                    ->watch({.failed = [this](const Status&) { failed_ = true; },
                             .mapped = [this] { ++answered_; }})
                    .ok());
    range_ = add(blocks_, device_, 0, 2 * kBlock);
  }
  void TearDown() override {
    link_->close();
    EXPECT_EQ(device_->open.load(), 0);
  }

  Link::Opened find(uint64_t at) {
    return link_->find_block(range_, FakeDevice::kBegin + at, {device_}, [] {});
  }
  // What an honest target answers.
  Message answer(uint64_t at) {
    const BlockTable::Found found =
        blocks_.find(range_.index, range_.generation, FakeDevice::kBegin + at).take();
    Message message;
    message.kind = Kind::kBlock;
    message.index = found.key.index;
    message.generation = found.key.generation;
    message.value = found.block.begin;
    message.length = found.block.length;
    return message;
  }
  void send(const Message& message, int descriptor = -1) {
    ASSERT_TRUE(send_message(socket_.get(), message, descriptor).ok());
  }
  void ask(uint64_t at) {
    EXPECT_EQ(find(at).status.code(), Code::kBusy);
    const std::optional<Received> question = receive(socket_.get());
    ASSERT_TRUE(question.has_value());
    EXPECT_EQ(question->message.kind, Kind::kOpen);
    EXPECT_EQ(question->message.value, FakeDevice::kBegin + at);
  }

  const std::shared_ptr<FakeDevice> device_ = std::make_shared<FakeDevice>(2 * kBlock);
  BlockTable blocks_{*table_};
  RangeKey range_{};
  std::shared_ptr<Link> link_;
  std::atomic<bool> failed_{false};
  std::atomic<int> answered_{0};
};

TEST_F(HostileBlocks, OneThatIsNoneIsOpenedOnceAndClosedWhenItGoes) {
  ask(5);
  EXPECT_EQ(find(6).status.code(), Code::kBusy) << "it waits for the same answer";
  send(answer(5));
  ASSERT_TRUE(eventually([&] { return answered_.load() == 1; }));
  for (const uint64_t at : {uint64_t{0}, uint64_t{5}, uint64_t{6}, kBlock - 1}) {
    const Link::Opened opened = find(at);
    ASSERT_TRUE(opened.status.ok()) << at;
    EXPECT_EQ(opened.found.block.begin, FakeDevice::kBegin);
  }
  EXPECT_EQ(device_->opens.load(), 1);
  ask(kBlock);
  send(answer(kBlock));
  ASSERT_TRUE(eventually([&] { return answered_.load() == 2; }));
  EXPECT_EQ(device_->open.load(), 2);
  EXPECT_TRUE(blocks_.remove(range_));
  Message release;
  release.kind = Kind::kRelease;
  release.value = 7;
  send(release);
  const std::optional<Received> released = receive(socket_.get());
  ASSERT_TRUE(released.has_value());
  EXPECT_EQ(released->message.kind, Kind::kReleased);
  EXPECT_EQ(released->message.value, 7u);
  EXPECT_EQ(device_->open.load(), 0) << "it answers before it closes";
}

TEST_F(HostileBlocks, BlocksThatDoNotHoldTheAddressEndTheConnection) {
  ask(5);
  Message wrong = answer(kBlock);
  send(wrong);
  EXPECT_TRUE(eventually([&] { return failed_.load(); }));
  EXPECT_EQ(device_->opens.load(), 0);
}

TEST_F(HostileBlocks, LengthsThatWrapEndTheConnection) {
  ask(5);
  Message wrong = answer(5);
  wrong.length = UINT64_MAX - wrong.value + 2;
  send(wrong);
  EXPECT_TRUE(eventually([&] { return failed_.load(); }));
  EXPECT_EQ(device_->opens.load(), 0);
}

TEST_F(HostileBlocks, BlocksThatAreNotInTheTableEndTheConnection) {
  ask(5);
  Message wrong = answer(5);
  wrong.index = UINT32_MAX;
  send(wrong);
  EXPECT_TRUE(eventually([&] { return failed_.load(); }));
  EXPECT_EQ(device_->opens.load(), 0);
}

TEST_F(HostileBlocks, AnswersThatNobodyAskedForEndTheConnection) {
  send(answer(5));
  EXPECT_TRUE(eventually([&] { return failed_.load(); }));
  EXPECT_EQ(device_->opens.load(), 0);
}

TEST_F(HostileBlocks, AnswersOfTheOtherKindEndTheConnection) {
  ask(5);
  Message wrong = answer(5);
  wrong.kind = Kind::kMapped;
  wrong.index = range_.index;
  wrong.generation = range_.generation;
  send(wrong);
  EXPECT_TRUE(eventually([&] { return failed_.load(); }));
}

TEST_F(HostileBlocks, WhatCannotBeOpenedIsNotAskedForAgain) {
  device_->opens_any = false;
  ask(5);
  send(answer(5));
  ASSERT_TRUE(eventually([&] { return answered_.load() == 1; }));
  const Status status = find(6).status;
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_NE(status.message().find("it opens nothing"), std::string::npos) << status.message();
  EXPECT_FALSE(link_->may_open(range_));
  const RangeKey beside = add(blocks_, device_, kBlock, 16),
                 both = add(blocks_, device_, 0, 2 * kBlock);
  EXPECT_TRUE(link_->may_open(beside));
  EXPECT_FALSE(link_->may_open(both)) << "some of it cannot be opened";
  // Its next block is another matter.
  device_->opens_any = true;
  ask(kBlock);
  send(answer(kBlock));
  ASSERT_TRUE(eventually([&] { return answered_.load() == 2; }));
  EXPECT_TRUE(find(kBlock).status.ok());
}

TEST_F(HostileBlocks, WhatTheTargetRefusesIsNotAskedForAgain) {
  ask(5);
  Message no;
  no.kind = Kind::kBlock;
  no.code = Code::kUnsupported;
  send(no);
  ASSERT_TRUE(eventually([&] { return answered_.load() == 1; }));
  EXPECT_EQ(find(5).status.code(), Code::kUnavailable);
  EXPECT_EQ(find(kBlock).status.code(), Code::kUnavailable) << "of the same range";
  EXPECT_FALSE(link_->may_open(range_));
  // Registered again, it is a range of its own.
  ASSERT_TRUE(blocks_.remove(range_));
  range_ = add(blocks_, device_, 0, 2 * kBlock);
  EXPECT_TRUE(link_->may_open(range_));
  ask(5);
}

// Any device copies host memory, so that one cannot open the block says nothing of another one.
TEST_F(HostileBlocks, WhatCannotBeOpenedForHostMemoryIsAskedForByADevice) {
  constexpr auto kHost = OpenBlocks::Local::kHost;
  auto any = std::make_shared<FakeDevice>(2 * kBlock);
  any->opens_any = false;
  const auto find_for_host = [&] {
    return link_->find_block(range_, FakeDevice::kBegin, {any, kHost}, [] {}).status.code();
  };
  EXPECT_EQ(find_for_host(), Code::kBusy);
  ASSERT_TRUE(receive(socket_.get()).has_value());
  send(answer(0));
  ASSERT_TRUE(eventually([&] { return answered_.load() == 1; }));
  EXPECT_EQ(find_for_host(), Code::kUnavailable);
  EXPECT_FALSE(link_->may_open(range_, kHost));
  EXPECT_TRUE(link_->may_open(range_));
  // But where its own device cannot, host memory is not tried.
  device_->opens_any = false;
  const RangeKey beside = add(blocks_, device_, kBlock, 16);
  ask(kBlock);
  send(answer(kBlock));
  ASSERT_TRUE(eventually([&] { return answered_.load() == 2; }));
  EXPECT_FALSE(link_->may_open(beside));
  EXPECT_FALSE(link_->may_open(beside, kHost));
}

TEST_F(HostileBlocks, WhatOpensForHostMemoryIsKeptUntilTheAnswer) {
  auto any = std::make_shared<FakeDevice>(2 * kBlock);
  const std::weak_ptr<FakeDevice> alive = any;
  const void* const copier = any->copier();
  EXPECT_EQ(link_->find_block(range_, FakeDevice::kBegin, {any, OpenBlocks::Local::kHost}, [] {})
                .status.code(),
            Code::kBusy);
  any.reset();
  EXPECT_FALSE(alive.expired());
  ASSERT_TRUE(receive(socket_.get()).has_value());
  send(answer(0));
  ASSERT_TRUE(eventually([&] { return answered_.load() == 1; }));
  ASSERT_FALSE(alive.expired()) << "its block is not open";
  EXPECT_EQ(alive.lock()->copier(), copier);
  EXPECT_EQ(alive.lock()->open.load(), 1);
  ASSERT_TRUE(blocks_.remove(range_));
  Message release;
  release.kind = Kind::kRelease;
  send(release);
  EXPECT_TRUE(eventually([&] { return alive.expired(); }));
}

TEST_F(HostileBlocks, ABlockWhoseAskerIsGoneIsNotOpened) {
  auto other = std::make_shared<FakeDevice>(2 * kBlock);
  EXPECT_EQ(link_->find_block(range_, FakeDevice::kBegin, {other}, [] {}).status.code(),
            Code::kBusy);
  ASSERT_TRUE(receive(socket_.get()).has_value());
  other.reset();
  send(answer(0));
  ASSERT_TRUE(eventually([&] { return answered_.load() == 1; }));
  EXPECT_FALSE(failed_.load());
  ask(0);
}

TEST_F(HostileBlocks, ItsEndClosesWhatIsOpen) {
  ask(5);
  send(answer(5));
  ASSERT_TRUE(eventually([&] { return answered_.load() == 1; }));
  socket_.reset();
  EXPECT_TRUE(eventually([&] { return device_->open.load() == 0 && failed_.load(); }));
  EXPECT_EQ(find(5).status.code(), Code::kUnavailable);
}

// An initiator that has blocks open.
class HostileOpener : public HostileInitiator {
 protected:
  void SetUp() override {
    socket_ = connect();
    ASSERT_TRUE(send_message(socket_.get(), hello(), hazards_.fd()).ok());
    ASSERT_TRUE(receive(socket_.get()).has_value());
    range_ = add(*blocks_, device_, 0, kBlock);
  }
  std::optional<Received> ask(const RangeKey& key, uint64_t address) {
    Message question;
    question.kind = Kind::kOpen;
    question.index = key.index;
    question.generation = key.generation;
    question.value = address;
    EXPECT_TRUE(send_message(socket_.get(), question).ok());
    return receive(socket_.get());
  }
  int64_t ms_until_released() {
    const int64_t begin = now_ns();
    responder_->wait_until_released();
    return (now_ns() - begin) / kNsPerMs;
  }

  const MemoryFile hazards_ = MemoryFile::create("test", sizeof(HazardPage)).take();
  const std::shared_ptr<FakeDevice> device_ = std::make_shared<FakeDevice>();
  RangeKey range_{};
  Fd socket_;
};

TEST_F(HostileOpener, GetsNoBlocksOfWhatIsNotRegistered) {
  for (const auto& [key, address] :
       {std::pair{RangeKey{range_.index, range_.generation + 1, Way::kOpened}, FakeDevice::kBegin},
        {RangeKey{UINT32_MAX, range_.generation, Way::kOpened}, FakeDevice::kBegin},
        {range_, FakeDevice::kBegin - 1},
        {range_, FakeDevice::kBegin + kBlock}}) {
    const std::optional<Received> answer = ask(key, address);
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->message.kind, Kind::kBlock);
    EXPECT_NE(answer->message.code, Code::kOk);
    EXPECT_EQ(answer->message.length, 0u);
  }
  const std::optional<Received> answer = ask(range_, FakeDevice::kBegin);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->message.code, Code::kOk);
}

TEST_F(HostileOpener, IsWaitedForOnceAndNotForLong) {
  ASSERT_TRUE(ask(range_, FakeDevice::kBegin).has_value());
  EXPECT_TRUE(blocks_->remove(range_));
  responder_->release();
  const int64_t first = ms_until_released();
  EXPECT_GE(first, 300);
  EXPECT_LT(first, 5'000);
  responder_->release();
  EXPECT_LT(ms_until_released(), 250) << "it is waited for again";
  // It goes on.
  const std::optional<Received> told = receive(socket_.get());
  ASSERT_TRUE(told.has_value());
  EXPECT_EQ(told->message.kind, Kind::kRelease);
  Message released = told->message;
  released.kind = Kind::kReleased;
  ASSERT_TRUE(send_message(socket_.get(), released).ok());
  // Of what went meanwhile it is told next.
  const std::optional<Received> again = receive(socket_.get());
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->message.kind, Kind::kRelease);
  EXPECT_GT(again->message.value, told->message.value);
  std::atomic<bool> waited{false};
  std::thread waiter([&] {
    responder_->wait_until_released();
    waited = true;
  });
  released.value = again->message.value;
  ASSERT_TRUE(send_message(socket_.get(), released).ok());
  waiter.join();
  EXPECT_TRUE(waited.load());
}

TEST_F(HostileOpener, ClosingWhatItWasNotToldToEndsTheConnection) {
  ASSERT_TRUE(ask(range_, FakeDevice::kBegin).has_value());
  Message released;
  released.kind = Kind::kReleased;
  ASSERT_TRUE(send_message(socket_.get(), released).ok());
  EXPECT_TRUE(is_closed(socket_.get()));
  EXPECT_TRUE(serves());
}

TEST_F(HostileOpener, OneWithoutBlocksIsNotWaitedFor) {
  EXPECT_TRUE(blocks_->remove(range_));
  responder_->release();
  EXPECT_LT(ms_until_released(), 250);
}

TEST_F(HostileOpener, OneThatClosedItsSocketIsNotWaitedFor) {
  ASSERT_TRUE(ask(range_, FakeDevice::kBegin).has_value());
  socket_.reset();
  EXPECT_TRUE(blocks_->remove(range_));
  EXPECT_TRUE(eventually([&] {
    responder_->release();
    return ms_until_released() < 250;
  }));
}

}  // namespace
}  // namespace te::shm
