// Deadlines hold, and healthy peers are served, while others stand still, restart or offer less
// than was asked for.
//
// How late something is includes what a loaded machine adds; without the engine's part it would be
// seconds.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>
#include <thread>

#include "base/log.h"
#include "engine/pair.h"
#include "support/child.h"
#include "support/peer.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kLateMs = kSanitized ? 1'500 : 250;
constexpr uint64_t kCrowd = kSanitized ? 16 : 64;
constexpr uint64_t kLength = 64 << 10;

const std::map<std::string, std::string> kFewThreads = {{"TRANSFER_ENGINE_TCP_THREADS", "1"},
                                                        {"TRANSFER_ENGINE_TCP_CONNECTIONS", "1"},
                                                        {"TRANSFER_ENGINE_COPY_THREADS", "1"}};

// Many targets in one process, and a healthy one in another.
class CrowdOfTargets : public testing::Test {
 protected:
  void SetUp() override {
    PeerOptions options;
    options.environment = kFewThreads;
    crowd_process_ = std::make_unique<PeerProcess>(options);
    healthy_ = std::make_unique<PeerProcess>(PeerOptions());
    ASSERT_TRUE(crowd_process_->running() && healthy_->running());
    engine_ = make_engine({{"tcp_connections", "1"}});
    local_ = std::make_unique<Registered>(*engine_, kLength);
    std::istringstream names(crowd_process_->ask(fmt::format("engines {}", kCrowd)));
    for (std::string name; names >> name;) {
      const Result<SegmentId> id = engine_->open_segment(name);
      ASSERT_TRUE(id.ok()) << id.status().to_string();
      crowd_.push_back(*id);
    }
    ASSERT_EQ(crowd_.size(), kCrowd);
    const Result<SegmentId> id = engine_->open_segment(healthy_->segment());
    ASSERT_TRUE(id.ok()) << id.status().to_string();
    healthy_id_ = *id;
    for (const SegmentId each : crowd_) {
      ASSERT_EQ(transfer(*engine_, {write(each)}).state, TaskState::kCompleted);
    }
    ASSERT_EQ(transfer(*engine_, {write(healthy_id_)}).state, TaskState::kCompleted);
  }

  TransferRequest write(SegmentId id) const {
    return {Opcode::kWrite, local_->data(), id, 0, kLength};
  }
  TransferRequest read(SegmentId id) const {
    return {Opcode::kRead, local_->data(), id, 0, kLength};
  }
  std::vector<BatchId> submit_to_crowd(int64_t timeout_ms) {
    std::vector<BatchId> batches;
    for (size_t i = 0; i < crowd_.size(); ++i) {
      batches.push_back(submit_new(*engine_, {i % 4 == 3 ? read(crowd_[i]) : write(crowd_[i])},
                                   within(timeout_ms)));
    }
    return batches;
  }
  // All of them end in `state`, the last `limit_ms` from now at most.
  void expect_end(const std::vector<BatchId>& batches, TaskState state, int64_t limit_ms) {
    const Stopwatch watch;
    for (const BatchId batch : batches) {
      ASSERT_TRUE(engine_->wait(batch, kPatience).ok());
      EXPECT_EQ(engine_->batch_status(batch)->state, state)
          << engine_->task_error(batch, 0)->status.to_string();
    }
    EXPECT_LE(watch.ms(), limit_ms);
    for (const BatchId batch : batches) EXPECT_TRUE(engine_->free_batch(batch).ok());
  }

  std::unique_ptr<PeerProcess> crowd_process_, healthy_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Registered> local_;
  std::vector<SegmentId> crowd_;
  SegmentId healthy_id_ = -1;
};

TEST_F(CrowdOfTargets, ThatStandStillKeepNoTaskBeyondItsDeadlineAndNoOtherPeer) {
  constexpr int64_t kTimeoutMs = 600;
  crowd_process_->stop();
  // First over connections that stand, then over such as are being made, then while the engines are
  // looked for.
  for (int round = 0; round < 3; ++round) {
    const Stopwatch submitting;
    const std::vector<BatchId> batches = submit_to_crowd(kTimeoutMs);
    EXPECT_LT(submitting.ms(), kLateMs);
    expect_end(batches, TaskState::kTimeout, kTimeoutMs + kLateMs);
  }
  // In the middle of all that, a peer that is well.
  const std::vector<BatchId> batches = submit_to_crowd(kTimeoutMs);
  std::this_thread::sleep_for(milliseconds(100));
  SubmitOptions options;
  options.notification = Notification{"crowd", "none of it"};
  const Stopwatch watch;
  EXPECT_EQ(transfer(*engine_, {write(healthy_id_)}, options).state, TaskState::kCompleted);
  EXPECT_LT(watch.ms(), kLateMs);
  EXPECT_EQ(healthy_->ask("notifications"), "1");
  expect_end(batches, TaskState::kTimeout, kTimeoutMs + kLateMs);
  // All is well again once they go on.
  crowd_process_->signal(SIGCONT);
  EXPECT_EQ(transfer(*engine_, {write(crowd_.front()), write(crowd_.back())}).state,
            TaskState::kCompleted);
}

TEST_F(CrowdOfTargets, ThatStandStillHoldUpNoCancellation) {
  crowd_process_->stop();
  const std::vector<BatchId> batches = submit_to_crowd(60'000);
  std::this_thread::sleep_for(milliseconds(300));
  for (const BatchId batch : batches) EXPECT_TRUE(engine_->cancel(batch).ok());
  expect_end(batches, TaskState::kCancelled, 100 + kLateMs);
}

TEST(Deadlines, AStoppedTargetIsNeitherAskedBySubmitNorWaitedForByIt) {
  PeerProcess peer({});
  ASSERT_TRUE(peer.running());
  std::unique_ptr<Engine> engine = make_engine();
  Registered local(*engine, kLength);
  const Result<SegmentId> id = engine->open_segment(peer.segment());
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  peer.stop();
  // Beyond what is known of the target.
  const TransferRequest request{Opcode::kWrite, local.data(), *id, 1ull << 40, kLength};
  const Stopwatch watch;
  const BatchId batch = submit_new(*engine, {request}, within(400));
  EXPECT_LT(watch.ms(), kLateMs);
  ASSERT_TRUE(engine->wait(batch, kPatience).ok());
  EXPECT_LE(watch.ms(), 400 + kLateMs);
  EXPECT_GE(watch.ms(), 399);
  EXPECT_EQ(engine->batch_status(batch)->state, TaskState::kTimeout);
  EXPECT_TRUE(fails_with(engine->task_error(batch, 0)->status, Code::kTimeout, peer.segment()));
  EXPECT_TRUE(engine->free_batch(batch).ok());
  peer.signal(SIGCONT);
  const BatchId again = submit_new(*engine, {request});
  ASSERT_TRUE(engine->wait(again, kPatience).ok());
  EXPECT_EQ(engine->batch_status(again)->state, TaskState::kFailed);
  EXPECT_TRUE(fails_with(engine->task_error(again, 0)->status, Code::kOutOfRange, "no buffer"));
  EXPECT_TRUE(engine->free_batch(again).ok());
}

// Not from when the engine first looks at it, which is when the process goes on.
TEST(Deadlines, AreCountedFromTheSubmissionThoughTheProcessIsStoppedNext) {
  if (kThreadSanitized) GTEST_SKIP() << "ThreadSanitizer allows no threads in a forked child";
  const ChildEnd end = run_in_child([] {
    constexpr int64_t kTimeoutMs = 2'000;
    int submitted[2];
    if (::pipe(submitted) != 0) return 1;
    const pid_t self = ::getpid();
    const pid_t other = ::fork();
    if (other == 0) {
      char byte = 0;
      (void)!::read(submitted[0], &byte, 1);
      std::this_thread::sleep_for(milliseconds(kTimeoutMs + 200));
      ::kill(self, SIGCONT);
      ::_exit(0);
    }
    PeerProcess peer({});
    std::unique_ptr<Engine> engine = make_engine();
    Registered local(*engine, kLength);
    const Result<SegmentId> id = engine->open_segment(peer.segment());
    EXPECT_TRUE(id.ok()) << id.status().to_string();
    if (!id.ok()) return 1;
    peer.stop();
    const BatchId batch =
        submit_new(*engine, {{Opcode::kWrite, local.data(), *id, 0, kLength}}, within(kTimeoutMs));
    (void)!::write(submitted[1], "x", 1);
    ::raise(SIGSTOP);
    const Stopwatch watch;
    EXPECT_TRUE(engine->wait(batch, kPatience).ok());
    EXPECT_LE(watch.ms(), kLateMs);
    EXPECT_EQ(engine->batch_status(batch)->state, TaskState::kTimeout);
    ::waitpid(other, nullptr, 0);
    return 0;
  });
  EXPECT_TRUE(end.ok()) << end.describe();
}

TEST(Deadlines, TheEndOfAnEngineDoesNotWaitForAStoppedTarget) {
  PeerProcess peer({});
  ASSERT_TRUE(peer.running());
  std::unique_ptr<Engine> engine = make_engine();
  std::vector<std::byte> memory(4 << 20);
  ASSERT_TRUE(engine->register_memory(memory.data(), memory.size()).ok());
  const Result<SegmentId> id = engine->open_segment(peer.segment());
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  peer.stop();
  for (const uint64_t offset : {uint64_t{0}, uint64_t{1} << 40}) {
    (void)submit_new(*engine, {{Opcode::kWrite, memory.data(), *id, offset, 1 << 20}},
                     within(60'000));
  }
  std::this_thread::sleep_for(milliseconds(300));
  const Stopwatch watch;
  engine.reset();
  EXPECT_LE(watch.ms(), 100 + 2 * kLateMs);
}

// Memory is shared with it, so the bytes get there while it stands still.
TEST(Deadlines, ANotificationThatTimedOutDoesNotArriveAfterwards) {
  PeerProcess peer({});
  ASSERT_TRUE(peer.running());
  std::unique_ptr<Engine> engine = make_engine({{"connect_timeout_ms", "300"}}, "shm");
  Registered local(*engine, kLength);
  const Result<SegmentId> id = engine->open_segment(peer.segment());
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  const TransferRequest request{Opcode::kWrite, local.data(), *id, 0, kLength};
  SubmitOptions options = within(5'000);
  options.notification = Notification{"first", "it"};
  if (transfer(*engine, {request}, options).state != TaskState::kCompleted) {
    GTEST_SKIP() << "processes of this machine do not share memory";
  }
  EXPECT_EQ(peer.ask("notifications"), "1");
  peer.stop();
  options = within(200);
  options.notification = Notification{"second", "it"};
  const Stopwatch watch;
  const BatchId batch = submit_new(*engine, {request}, options);
  ASSERT_TRUE(engine->wait(batch, kPatience).ok());
  EXPECT_LE(watch.ms(), 200 + kLateMs);
  EXPECT_EQ(engine->batch_status(batch)->state, TaskState::kTimeout);
  EXPECT_TRUE(
      fails_with(engine->task_error(batch, 0)->status, Code::kTimeout, "bytes are in place"));
  EXPECT_TRUE(engine->free_batch(batch).ok());
  EXPECT_FALSE(engine->notify(*id, {"third", "alone"}).ok());
  peer.signal(SIGCONT);
  options = within(5'000);
  options.notification = Notification{"fourth", "it"};
  EXPECT_EQ(transfer(*engine, {request}, options).state, TaskState::kCompleted);
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_EQ(peer.ask("notifications"), "1") << "the fourth alone";
}

TEST(Deadlines, ANotificationsMessageIsAnyBytesAndItsNameIsText) {
  Pair pair;
  const std::string text("a\0b", 3);
  EXPECT_TRUE(fails_with(pair.initiator().notify(pair.segment(), {text, "message"}),
                         Code::kInvalidArgument, "NUL at 1"));
  const BatchId batch = *pair.initiator().allocate_batch(1);
  SubmitOptions options;
  options.notification = Notification{text, "message"};
  const TransferRequest request = pair.write(0, 100);
  EXPECT_TRUE(fails_with(pair.initiator().submit(batch, {&request, 1}, options),
                         Code::kInvalidArgument, "NUL at 1"));
  options.notification = Notification{"name", text};
  ASSERT_TRUE(pair.initiator().submit(batch, {&request, 1}, options).ok());
  EXPECT_TRUE(pair.initiator().free_batch(batch).ok());
  const std::vector<Notification> arrived = pair.target().take_notifications();
  ASSERT_EQ(arrived.size(), 1u);
  EXPECT_EQ(arrived[0].message, text);
}

// A target on a port of its own, which another run may take over.
std::unique_ptr<Engine> target_on(uint16_t port) {
  EngineOptions options;
  options.host = "127.0.0.1";
  options.port = port;
  Result<std::unique_ptr<Engine>> engine = Engine::create(options);
  EXPECT_TRUE(engine.ok()) << engine.status().to_string();
  return engine.ok() ? engine.take() : nullptr;
}

TEST(Deadlines, ARestartedTargetHasTheRetryWindowToRegisterItsMemoryAgain) {
  std::unique_ptr<Engine> engine = make_engine({{"retry_window_ms", "5000"}});
  Registered local(*engine, kLength);
  std::unique_ptr<Engine> target = target_on(0);
  const std::string name = target->local_endpoint();
  const auto port = static_cast<uint16_t>(std::stoi(name.substr(name.rfind(':') + 1)));
  std::vector<std::byte> memory(kLength);
  ASSERT_TRUE(target->register_memory(memory.data(), kLength).ok());
  const Result<SegmentId> id = engine->open_segment(name);
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  const TransferRequest request{Opcode::kWrite, local.data(), *id, 0, kLength};
  ASSERT_EQ(transfer(*engine, {request}).state, TaskState::kCompleted);

  target.reset();
  target = target_on(port);
  ASSERT_NE(target, nullptr);
  stamp(local.data(), kLength, 7);
  const BatchId early = submit_new(*engine, {request});
  std::this_thread::sleep_for(milliseconds(300));
  // It is known now that another run is there, which offers nothing.
  const BatchId late = submit_new(*engine, {request});
  std::this_thread::sleep_for(milliseconds(300));
  for (const BatchId batch : {early, late}) {
    EXPECT_EQ(engine->batch_status(batch)->state, TaskState::kPending);
  }
  ASSERT_TRUE(target->register_memory(memory.data(), kLength).ok());
  for (const BatchId batch : {early, late}) {
    ASSERT_TRUE(engine->wait(batch, kPatience).ok());
    EXPECT_EQ(engine->batch_status(batch)->state, TaskState::kCompleted)
        << engine->task_error(batch, 0)->status.to_string();
    EXPECT_TRUE(engine->free_batch(batch).ok());
  }
  EXPECT_EQ(difference(memory.data(), kLength, 7), kSame);
}

TEST(Deadlines, ATransportThatTheTargetInstalledLaterIsFound) {
  std::unique_ptr<Engine> engine = make_engine();
  std::unique_ptr<Engine> target = make_engine({}, "shm");
  Registered local(*engine, kLength);
  Registered remote(*target, kLength);
  const Result<SegmentId> id = engine->open_segment(target->local_endpoint());
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  const TransferRequest request{Opcode::kWrite, local.data(), *id, 0, kLength};
  const BatchId batch = submit_new(*engine, {request});
  ASSERT_TRUE(engine->wait(batch, kPatience).ok());
  EXPECT_EQ(engine->batch_status(batch)->state, TaskState::kFailed);
  EXPECT_TRUE(fails_with(engine->task_error(batch, 0)->status, Code::kUnavailable, "no installed"));
  EXPECT_TRUE(engine->free_batch(batch).ok());
  ASSERT_TRUE(target->install_transport("tcp").ok());
  stamp(local.data(), kLength, 5);
  EXPECT_EQ(transfer(*engine, {request}).state, TaskState::kCompleted);
  EXPECT_EQ(difference(remote.data(), kLength, 5), kSame);
}

}  // namespace
}  // namespace te::test
