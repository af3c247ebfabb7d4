// Batches from submission to the end of every task: over a transport that keeps its slices until
// the test returns them. No network and no clock.
#include "engine/transfers.h"

#include <gtest/gtest.h>

#include <deque>

#include "engine/pair.h"
#include "engine/staging.h"
#include "transport/fakes.h"

namespace te::test {
namespace {

// Has the name of one that this build knows.
class KeepingTransport final : public NullTransport {
 public:
  std::string_view name() const override { return "tcp"; }
  Capabilities capabilities() const override {
    Capabilities capabilities;
    capabilities.key_size = sizeof(uint64_t);
    return capabilities;
  }
  Result<Bytes> register_memory(const Buffer&) override { return Bytes(sizeof(uint64_t), 'k'); }
  std::vector<std::shared_ptr<Path>> make_paths(const Peer&, ByteView) override {
    return {std::make_shared<Path>(*this, "", "", "the peer")};
  }
  void submit(SliceList slices) override {
    while (!slices.empty()) kept.push_back(slices.pop());
  }
  void sweep(Path&) override {
    std::deque<Slice*> all;
    all.swap(kept);
    for (Slice* slice : all) {
      if (slice->cancelled()) {
        transfers->done(slice, Code::kCancelled);
      } else {
        kept.push_back(slice);
      }
    }
  }
  // The oldest one comes back.
  void give_back(Code code = Code::kOk) {
    ASSERT_FALSE(kept.empty());
    Slice* slice = kept.front();
    kept.pop_front();
    transfers->done(slice, code);
  }

  Transfers* transfers = nullptr;
  std::deque<Slice*> kept;
};

// A peer that answers at once, and time that stands still.
class AnsweringHost final : public RecoveryHost {
 public:
  int64_t now_ns() override { return 1; }
  bool run_after(int64_t, std::function<void()> task) override {
    later.push_back(std::move(task));
    return true;
  }
  void refresh(const std::shared_ptr<Segment>&, std::function<void(Status)> refreshed) override {
    refreshed(answer);
  }
  int64_t restarted_ns(const Segment&) override { return 0; }
  void run() {
    std::vector<std::function<void()>> due;
    due.swap(later);
    for (const std::function<void()>& task : due) task();
  }

  Status answer;
  std::vector<std::function<void()>> later;
};

class TransfersTest : public testing::Test {
 protected:
  static constexpr uint64_t kSlice = 1'000;
  static constexpr uint64_t kSize = 64 * kSlice;

  TransfersTest() {
    EXPECT_TRUE(loop_->start().ok());  // segments end on it
    config_.slice_bytes = kSlice;
    transfers_.set_fences(fences_);
    transfers_.set_staging(staging_);
    recovery_.set_owner(transfers_);
    transfers_.set_addressing(Addressing::kAddress);
    transport_->transfers = &transfers_;
    transports_.add(transport_, false);
    segments_.set_local_name("self");
    const BufferEntry entry{memory_bytes_.data(), kSize};
    EXPECT_TRUE(memory_.add({&entry, 1}, "*", Access::kDefault).ok());
  }
  ~TransfersTest() override {
    transfers_.begin_stop();
    recovery_.stop();
    while (!transport_->kept.empty()) transport_->give_back(Code::kCancelled);
    transfers_.finish_stop();
  }

  TransferRequest write(uint64_t at, uint64_t length) {
    std::byte* source = memory_bytes_.data() + at;
    return {Opcode::kWrite, source, kLocalSegment, reinterpret_cast<uint64_t>(source), length};
  }
  BatchId submit(const std::vector<TransferRequest>& requests, const SubmitOptions& options = {}) {
    const BatchId batch = *transfers_.allocate(8);
    const Status status = transfers_.submit(batch, requests, options);
    EXPECT_TRUE(status.ok()) << status.to_string();
    return batch;
  }
  TaskState state(BatchId batch, size_t task = 0) { return transfers_.status(batch, task)->state; }

  std::vector<std::byte> memory_bytes_ = std::vector<std::byte>(kSize);
  RecordingHost transport_host_;
  Config config_ = {};
  Transports transports_{transport_host_, config_,
                         [] { return Status(Code::kUnsupported, "no topology"); }};
  Memory memory_{1, config_, transports_};
  const std::unique_ptr<EventLoop> loop_ = EventLoop::create("te-test").take();
  Segments segments_{1, config_, nullptr, memory_, transports_, *loop_};
  AnsweringHost recovery_host_;
  Recovery recovery_{config_, recovery_host_};
  std::vector<std::pair<uint64_t, std::function<void(Status)>>> notifications_;
  Transfers transfers_{config_,
                       memory_,
                       segments_,
                       recovery_,
                       {[this](const Submission&, std::shared_ptr<Segment>, uint64_t instance,
                               std::function<void(Status)> done) {
                          notifications_.emplace_back(instance, std::move(done));
                        },
                        [] {}}};
  Fences fences_{[](const Peer&, std::string_view, Bytes, const TransportHost::Answered&) {},
                 [](SliceList slices) { Transfers::post_held(slices); },
                 [this](Slice* slice, Code code) { transfers_.done(slice, code); }};
  Staging staging_{config_, memory_, transfers_, transport_host_};
  const std::shared_ptr<KeepingTransport> transport_ = std::make_shared<KeepingTransport>();
};

TEST_F(TransfersTest, ARequestIsCutAndCompletesWithItsLastSlice) {
  const BatchId batch = submit({write(10, 3 * kSlice + 1)});
  ASSERT_EQ(transport_->kept.size(), 4u);
  uint64_t at = 10;
  for (const Slice* slice : transport_->kept) {
    EXPECT_EQ(slice->local, memory_bytes_.data() + at);
    EXPECT_EQ(slice->remote_address, reinterpret_cast<uint64_t>(memory_bytes_.data() + at));
    EXPECT_EQ(slice->length, at == 10 + 3 * kSlice ? 1u : kSlice);
    EXPECT_EQ(slice->opcode, Opcode::kWrite);
    at += slice->length;
  }
  std::swap(transport_->kept[0], transport_->kept[3]);  // answers come in any order
  for (int i = 0; i < 3; ++i) transport_->give_back();
  EXPECT_EQ(state(batch), TaskState::kPending);
  EXPECT_EQ(transfers_.status(batch, 0)->transferred_bytes, 2 * kSlice + 1);
  EXPECT_EQ(transfers_.wait(batch, std::chrono::milliseconds(0)).code(), Code::kTimeout);
  transport_->give_back();
  EXPECT_EQ(state(batch), TaskState::kCompleted);
  EXPECT_EQ(transfers_.status(batch, 0)->transferred_bytes, 3 * kSlice + 1);
  EXPECT_TRUE(transfers_.wait(batch, std::chrono::milliseconds(0)).ok());
  EXPECT_TRUE(transfers_.free(batch).ok());
  EXPECT_EQ(transfers_.status(batch, 0).code(), Code::kNotFound);
}

TEST_F(TransfersTest, AllRequestsAreAcceptedOrNone) {
  const BatchId batch = *transfers_.allocate(2);
  TransferRequest outside = write(0, 10);
  outside.source = memory_bytes_.data() + kSize;
  const std::vector<TransferRequest> requests = {write(0, 10), outside};
  EXPECT_TRUE(
      fails_with(transfers_.submit(batch, requests, {}), Code::kInvalidArgument, "request 1"));
  const std::vector<TransferRequest> many(3, write(0, 10));
  EXPECT_EQ(transfers_.submit(batch, many, {}).code(), Code::kNoSpace);
  EXPECT_TRUE(transport_->kept.empty());
  EXPECT_EQ(state(batch), TaskState::kWaiting);
  // Nothing keeps the memory.
  void* address = memory_bytes_.data();
  EXPECT_TRUE(memory_.remove({&address, 1}).ok());
}

TEST_F(TransfersTest, WhatTheTargetRefusesFailsAlone) {
  const BatchId batch = submit({write(0, 10), write(100, 10), write(200, 0)});
  ASSERT_EQ(transport_->kept.size(), 2u);
  EXPECT_EQ(state(batch, 2), TaskState::kCompleted) << "of length zero";
  transport_->give_back(Code::kPermission);
  EXPECT_EQ(state(batch, 0), TaskState::kFailed);
  EXPECT_TRUE(fails_with(transfers_.task_error(batch, 0)->status, Code::kPermission, "the peer"));
  EXPECT_EQ(transfers_.batch_status(batch)->state, TaskState::kPending);
  transport_->give_back();
  EXPECT_EQ(state(batch, 1), TaskState::kCompleted);
  EXPECT_EQ(transfers_.batch_status(batch)->state, TaskState::kFailed);
  EXPECT_EQ(transfers_.batch_status(batch)->transferred_bytes, 10u);
}

TEST_F(TransfersTest, WhatWasLostIsPostedAgain) {
  const BatchId batch = submit({write(0, 2 * kSlice)});
  transport_->give_back();
  transport_->give_back(Code::kUnavailable);
  while (!recovery_host_.later.empty() && transport_->kept.empty()) recovery_host_.run();
  ASSERT_EQ(transport_->kept.size(), 1u);
  EXPECT_EQ(transport_->kept[0]->attempts, 1);
  EXPECT_EQ(transport_->kept[0]->remote_address,
            reinterpret_cast<uint64_t>(memory_bytes_.data()) + kSlice);
  EXPECT_EQ(state(batch), TaskState::kPending);
  transport_->give_back();
  EXPECT_EQ(state(batch), TaskState::kCompleted);
  EXPECT_EQ(transfers_.status(batch, 0)->transferred_bytes, 2 * kSlice);
}

TEST_F(TransfersTest, ACancelledTaskIsTerminalWhenItsSlicesAreBack) {
  const BatchId batch = submit({write(0, 3 * kSlice)});
  transport_->give_back();
  EXPECT_TRUE(transfers_.cancel(batch).ok());
  EXPECT_TRUE(transport_->kept.empty()) << "swept";
  EXPECT_EQ(state(batch), TaskState::kCancelled);
  EXPECT_EQ(transfers_.status(batch, 0)->transferred_bytes, kSlice);
  EXPECT_EQ(transfers_.task_error(batch, 0)->status.code(), Code::kCancelled);
}

TEST_F(TransfersTest, ANotificationFollowsTheLastByteAndEndsTheLastTask) {
  SubmitOptions options;
  options.notification = Notification{"done", "all"};
  const BatchId batch = submit({write(0, kSlice), write(kSlice, kSlice)}, options);
  transport_->give_back();
  EXPECT_EQ(state(batch, 0), TaskState::kCompleted);
  EXPECT_TRUE(notifications_.empty());
  transport_->give_back();
  ASSERT_EQ(notifications_.size(), 1u);
  EXPECT_EQ(notifications_[0].first, 1u) << "for the run that has the bytes";
  EXPECT_EQ(state(batch, 1), TaskState::kPending);
  notifications_[0].second(Status(Code::kUnavailable, "it went away"));
  EXPECT_EQ(state(batch, 1), TaskState::kFailed);
  EXPECT_TRUE(fails_with(transfers_.task_error(batch, 1)->status, Code::kUnavailable,
                         "bytes are in place"));
}

TEST_F(TransfersTest, ANotificationOfWhatFailedIsNotSent) {
  SubmitOptions options;
  options.notification = Notification{"done", "all"};
  const BatchId batch = submit({write(0, kSlice), write(kSlice, kSlice)}, options);
  transport_->give_back(Code::kPermission);
  transport_->give_back();
  EXPECT_TRUE(notifications_.empty());
  EXPECT_EQ(state(batch, 0), TaskState::kFailed);
  EXPECT_EQ(state(batch, 1), TaskState::kCompleted);
}

TEST_F(TransfersTest, NothingIsAcceptedOnceTheEngineEnds) {
  const BatchId batch = submit({write(0, kSlice)});
  transfers_.begin_stop();
  EXPECT_EQ(state(batch), TaskState::kCancelled);
  const TransferRequest late = write(0, 1);
  EXPECT_EQ(transfers_.submit(batch, {&late, 1}, {}).code(), Code::kCancelled);
  EXPECT_EQ(transfers_.wait(batch, std::nullopt).code(), Code::kCancelled);
}

}  // namespace
}  // namespace te::test
