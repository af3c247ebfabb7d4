// An initiator that stands still while its deadline passes, and finds afterwards that everything
// was done meanwhile: what ends long after its deadline is no success any more.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "engine/pair.h"
#include "support/peer.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kTimeoutMs = 150;
constexpr int64_t kStillMs = 500;  // longer than the timeout by far

struct Report {
  int early = 0;  // completed before it stood still
  int completed = 0;
  int timed_out = 0;
  int others = 0;
};

// Moves the requests from a process of its own, which stops itself in the middle.
class StandingInitiator {
 public:
  using Requests = std::vector<TransferRequest> (*)(std::byte* local, SegmentId segment);
  struct Plan {
    const char* transport;
    std::string segment;
    uint64_t size;  // of its memory
    Requests requests;
    int64_t moves_ms;  // before it stops
  };

  explicit StandingInitiator(const Plan& plan) {
    EXPECT_EQ(::pipe(to_), 0);
    EXPECT_EQ(::pipe(from_), 0);
    pid_ = ::fork();
    if (pid_ == 0) run(plan);
    ::close(to_[0]);
    ::close(from_[1]);
  }
  ~StandingInitiator() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    ::close(to_[1]);
    ::close(from_[0]);
  }
  StandingInitiator(const StandingInitiator&) = delete;
  StandingInitiator& operator=(const StandingInitiator&) = delete;

  // Its transport works; false: there is none.
  bool ready() {
    char byte = 0;
    EXPECT_EQ(::read(from_[0], &byte, 1), 1) << "the initiator did not come up";
    return byte == 'r';
  }
  // Returns when it stands still.
  void begin() {
    EXPECT_EQ(::write(to_[1], "b", 1), 1);
    int status = 0;
    ASSERT_EQ(::waitpid(pid_, &status, WUNTRACED), pid_);
    ASSERT_TRUE(WIFSTOPPED(status));
  }
  Report go_on() {
    ::kill(pid_, SIGCONT);
    Report report;
    EXPECT_EQ(::read(from_[0], &report, sizeof report), static_cast<ssize_t>(sizeof report));
    return report;
  }

 private:
  [[noreturn]] void run(const Plan& plan) const {
    std::unique_ptr<Engine> engine = make_engine({{"fabric_addresses", "127.0.0.1"}}, "");
    if (!engine->install_transport(plan.transport).ok()) {
      (void)!::write(from_[1], "n", 1);
      ::_exit(0);
    }
    std::vector<std::byte> local(plan.size, std::byte{1});
    const Result<SegmentId> id = engine->open_segment(plan.segment);
    if (!id.ok() || !engine->register_memory(local.data(), local.size()).ok()) ::_exit(1);
    const TransferRequest first{Opcode::kWrite, local.data(), *id, 0, 4096};
    if (transfer(*engine, {first}).state != TaskState::kCompleted) ::_exit(2);
    (void)!::write(from_[1], "r", 1);
    char byte = 0;
    if (::read(to_[0], &byte, 1) != 1) ::_exit(3);
    const std::vector<TransferRequest> requests = plan.requests(local.data(), *id);
    const Result<BatchId> batch = engine->allocate_batch(requests.size());
    // Whoever submits may copy, so that is done beside this.
    std::thread mover([&] {
      if (!engine->submit(*batch, requests, within(kTimeoutMs)).ok()) ::_exit(4);
      if (!engine->wait(*batch).ok()) ::_exit(5);
    });
    std::this_thread::sleep_for(milliseconds(plan.moves_ms));
    Report report;
    for (size_t i = 0; i < requests.size(); ++i) {
      const Result<TransferStatus> status = engine->status(*batch, i);
      if (status.ok() && status->state == TaskState::kCompleted) ++report.early;
    }
    ::raise(SIGSTOP);
    mover.join();
    for (size_t i = 0; i < requests.size(); ++i) {
      const TaskState state = engine->status(*batch, i)->state;
      ++(state == TaskState::kCompleted ? report.completed
         : state == TaskState::kTimeout ? report.timed_out
                                        : report.others);
    }
    (void)!::write(from_[1], &report, sizeof report);
    ::_exit(0);
  }

  pid_t pid_ = -1;
  int to_[2];
  int from_[2];
};

class LateCompletion : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (kThreadSanitized) GTEST_SKIP() << "ThreadSanitizer allows no threads in such a child";
  }
};

// The target does everything while the initiator stands still, so the answers are all there when it
// goes on.
TEST_P(LateCompletion, OfWhatWasDoneMeanwhileIsATimeout) {
  PeerOptions options;
  options.transport = GetParam();
  options.environment = {{"TRANSFER_ENGINE_FABRIC_ADDRESSES", "127.0.0.1"}};
  PeerProcess target(options);
  if (!target.running()) GTEST_SKIP() << "there is no libfabric";
  const auto small = [](std::byte* local, SegmentId segment) {
    std::vector<TransferRequest> requests;
    for (uint64_t i = 0; i < 100; ++i) {
      requests.push_back(
          {i % 2 == 0 ? Opcode::kWrite : Opcode::kRead, local + i * 4096, segment, i * 4096, 4096});
    }
    return requests;
  };
  StandingInitiator initiator({GetParam(), target.segment(), 1 << 20, small, 50});
  ASSERT_TRUE(initiator.ready());
  target.stop();
  ASSERT_NO_FATAL_FAILURE(initiator.begin());
  target.signal(SIGCONT);
  std::this_thread::sleep_for(milliseconds(kStillMs));
  const Report report = initiator.go_on();
  EXPECT_EQ(report.early, 0) << "the target did not stand still";
  EXPECT_EQ(report.completed, 0);
  EXPECT_EQ(report.timed_out, 100);
  EXPECT_EQ(report.others, 0);
}

INSTANTIATE_TEST_SUITE_P(Over, LateCompletion, testing::Values("tcp", "fabric:tcp"),
                         [](const auto& test) { return test.param[0] == 't' ? "tcp" : "fabric"; });

// Here the initiator copies itself, and is stopped in the middle.
TEST(LateCompletionOverShm, OfACopyThatGoesOnAfterwardsIsATimeout) {
  if (kThreadSanitized) GTEST_SKIP() << "ThreadSanitizer allows no threads in such a child";
  static constexpr uint64_t kSize = 256 << 20;
  static constexpr int kCopies = 32;
  PeerOptions options;
  options.transport = "shm";
  options.size = kSize;
  PeerProcess target(options);
  ASSERT_TRUE(target.running());
  const auto large = [](std::byte* local, SegmentId segment) {
    const TransferRequest all{Opcode::kWrite, local, segment, 0, kSize};
    return std::vector<TransferRequest>(kCopies, all);
  };
  constexpr int kAttempts = 10;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    StandingInitiator initiator({"shm", target.segment(), kSize, large, 100});
    ASSERT_TRUE(initiator.ready());
    ASSERT_NO_FATAL_FAILURE(initiator.begin());
    std::this_thread::sleep_for(milliseconds(kStillMs));
    const Report report = initiator.go_on();
    if (report.early == kCopies) continue;  // it was faster
    // One may have ended just before.
    EXPECT_LE(report.completed, report.early + 1);
    EXPECT_EQ(report.completed + report.timed_out, kCopies);
    return;
  }
  FAIL() << "no copy was met in the middle";
}

}  // namespace
}  // namespace te::test
