// No ghost writes: what is left of a WRITE that was given up never lands after a later WRITE.
#include <gtest/gtest.h>

#include <thread>

#include "engine/pair.h"
#include "support/delaying_proxy.h"
#include "support/peer.h"

namespace te::test {
namespace {

constexpr uint64_t kSize = 1 << 20;
constexpr uint64_t kOld = 1, kNew = 2;

// An initiator that reaches its target through a proxy.
class BehindAProxy : public testing::Test {
 protected:
  void begin(const std::map<std::string, std::string>& config) {
    local_.reset();
    remote_.reset();
    initiator_.reset();
    proxy_.reset();
    target_ = make_engine({}, "tcp");
    proxy_ = std::make_unique<DelayingProxy>(target_->local_endpoint());
    initiator_ = make_engine(config, "tcp");
    remote_ = std::make_unique<Registered>(*target_, kSize);
    local_ = std::make_unique<Registered>(*initiator_, kSize);
    open();
    ASSERT_EQ(write(0, kSize).state, TaskState::kCompleted);
  }
  void open() {
    const Result<SegmentId> id = initiator_->open_segment(proxy_->endpoint());
    ASSERT_TRUE(id.ok()) << id.status().to_string();
    segment_ = *id;
  }
  TransferStatus write(uint64_t seed, uint64_t length, const SubmitOptions& options = {}) {
    fill(local_->data(), kSize, seed);
    const auto at = reinterpret_cast<uint64_t>(remote_->data());
    return transfer(*initiator_, {{Opcode::kWrite, local_->data(), segment_, at, length}}, options);
  }
  // After the network let go of the old bytes, and the target had time to take them.
  void expect_new(uint64_t length) {
    proxy_->release();
    for (int i = 0; i < 20; ++i) {
      ASSERT_EQ(first_difference(remote_->data(), length, kNew), length) << "a ghost write";
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

  std::unique_ptr<Engine> target_;
  std::unique_ptr<DelayingProxy> proxy_;
  std::unique_ptr<Engine> initiator_;
  std::unique_ptr<Registered> remote_, local_;
  SegmentId segment_ = -1;
};

TEST_F(BehindAProxy, ALaterWriteOnTheSameSegmentIsNotOverwritten) {
  for (const uint64_t length : {uint64_t{4096}, kSize}) {
    begin({});
    proxy_->hold();
    ASSERT_EQ(write(kOld, length, within(300)).state, TaskState::kTimeout);
    ASSERT_GT(proxy_->held_bytes(), 0u) << "nothing was under way";
    ASSERT_EQ(write(kNew, length).state, TaskState::kCompleted);
    expect_new(length);
  }
}

// The session that follows is another one, of which the target does not know that it comes after.
TEST_F(BehindAProxy, ALaterWriteOnASegmentOpenedAgainIsNotOverwritten) {
  for (const uint64_t length : {uint64_t{4096}, kSize}) {
    begin({});
    proxy_->hold();
    ASSERT_EQ(write(kOld, length, within(300)).state, TaskState::kTimeout);
    ASSERT_GT(proxy_->held_bytes(), 0u) << "nothing was under way";
    ASSERT_TRUE(initiator_->close_segment(segment_).ok());
    open();
    ASSERT_EQ(write(kNew, length).state, TaskState::kCompleted);
    expect_new(length);
  }
}

TEST_F(BehindAProxy, ALaterWriteByATransportInstalledAgainIsNotOverwritten) {
  begin({});
  proxy_->hold();
  ASSERT_EQ(write(kOld, kSize, within(300)).state, TaskState::kTimeout);
  ASSERT_TRUE(initiator_->uninstall_transport("tcp").ok());
  ASSERT_TRUE(initiator_->install_transport("tcp").ok());
  ASSERT_EQ(write(kNew, kSize).state, TaskState::kCompleted);
  expect_new(kSize);
}

}  // namespace
}  // namespace te::test
