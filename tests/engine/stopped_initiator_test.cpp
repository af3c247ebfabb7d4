// Unregistering and freeing memory while a process of this host, stopped in the middle of a copy,
// may touch it at any time.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "engine/pair.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kSize = 128 << 20;
constexpr int kAttempts = 20;
constexpr int64_t kPromptMs = kSanitized ? 10'000 : 3'000;

// A process that does nothing but move bytes to and from a target over shm.
class Initiator {
 public:
  Initiator(const std::string& segment, void* memory) {
    int ready[2];
    if (::pipe(ready) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) run(segment, reinterpret_cast<uint64_t>(memory), ready[1]);
    ::close(ready[1]);
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1) << "the initiator did not come up";
    ::close(ready[0]);
  }
  ~Initiator() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Initiator(const Initiator&) = delete;
  Initiator& operator=(const Initiator&) = delete;

  pid_t pid() const { return pid_; }
  // Returns when no thread of it runs.
  void stop() const { ASSERT_TRUE(stop_process(pid_)); }
  void go_on() const { ::kill(pid_, SIGCONT); }

 private:
  [[noreturn]] static void run(const std::string& segment, uint64_t there, int ready) {
    std::unique_ptr<Engine> engine = make_engine({}, "shm");
    std::vector<std::byte> local(kSize);
    const Result<SegmentId> target = engine->open_segment(segment);
    if (!target.ok() || !engine->register_memory(local.data(), kSize).ok()) ::_exit(1);
    std::vector<TransferRequest> requests;
    for (const Opcode opcode : {Opcode::kRead, Opcode::kWrite, Opcode::kRead, Opcode::kWrite}) {
      requests.push_back({opcode, local.data(), *target, there, kSize});
    }
    for (bool first = true;; first = false) {
      const Result<BatchId> batch = engine->allocate_batch(requests.size());
      if (!batch.ok() || !engine->submit(*batch, requests).ok()) ::_exit(1);
      if (first) (void)!::write(ready, "x", 1);
      if (!engine->wait(*batch).ok()) ::_exit(1);
      if (engine->batch_status(*batch)->state != TaskState::kCompleted) ::_exit(0);
      if (!engine->free_batch(*batch).ok()) ::_exit(1);
    }
  }

  pid_t pid_ = -1;
};

std::unique_ptr<Engine> make_target() {
  return make_engine({{"unregister_timeout_ms", "300"}}, "shm");
}

class StoppedInitiator : public testing::Test {
 protected:
  void SetUp() override {
    if (kThreadSanitized) GTEST_SKIP() << "ThreadSanitizer allows no threads in such a child";
  }
};

TEST_F(StoppedInitiator, UnregisteringIsBusyInTimeAndSucceedsLater) {
  const std::unique_ptr<Engine> target = make_target();
  std::vector<std::byte> memory(kSize);
  bool met = false;
  for (int attempt = 0; attempt < kAttempts && !met; ++attempt) {
    ASSERT_TRUE(target->register_memory(memory.data(), kSize).ok());
    const Initiator initiator(target->local_endpoint(), memory.data());
    std::this_thread::sleep_for(milliseconds(50 + attempt));
    ASSERT_NO_FATAL_FAILURE(initiator.stop());
    const Stopwatch watch;
    const Status status = target->unregister_memory(memory.data());
    EXPECT_LT(watch.ms(), kPromptMs);
    if (status.ok()) continue;
    met = true;
    EXPECT_TRUE(fails_with(status, Code::kBusy, "process " + std::to_string(initiator.pid())));
    // It is still closed, not gone: a second call waits again, and nothing can be put there.
    EXPECT_EQ(target->unregister_memory(memory.data()).code(), Code::kBusy);
    EXPECT_EQ(target->register_memory(memory.data(), kSize).code(), Code::kAlreadyExists);
    initiator.go_on();
    EXPECT_TRUE(eventually([&] { return target->unregister_memory(memory.data()).ok(); }));
    // Nobody writes there any more.
    std::memset(memory.data(), 0x5c, kSize);
    std::this_thread::sleep_for(milliseconds(50));
    EXPECT_EQ(other_than(memory.data(), kSize, std::byte{0x5c}), kSame);
  }
  EXPECT_TRUE(met) << "it was never stopped in the middle of a copy";
}

TEST_F(StoppedInitiator, FreeingDoesNotWait) {
  const std::unique_ptr<Engine> target = make_target();
  bool met = false;
  for (int attempt = 0; attempt < kAttempts && !met; ++attempt) {
    const Result<void*> memory = target->allocate(kSize);
    ASSERT_TRUE(memory.ok()) << memory.status().to_string();
    std::memset(*memory, 1, kSize);
    const Initiator initiator(target->local_endpoint(), *memory);
    std::this_thread::sleep_for(milliseconds(50 + attempt));
    ASSERT_NO_FATAL_FAILURE(initiator.stop());
    const size_t before = resident_bytes();
    const Stopwatch watch;
    const Status status = target->free(*memory);
    EXPECT_TRUE(status.ok()) << status.to_string();
    EXPECT_LT(watch.ms(), kPromptMs);
    if (!kSanitized) {
      EXPECT_LT(resident_bytes() + kSize / 2, before) << "the memory is still there";
    }
    // Where it was met in the middle of a copy, nothing is ever mapped there again.
    met = ::madvise(*memory, 4096, MADV_NORMAL) == 0;
    initiator.go_on();
  }
  EXPECT_TRUE(met) << "it was never stopped in the middle of a copy";
}

TEST_F(StoppedInitiator, AnEngineEndsInTime) {
  std::unique_ptr<Engine> target = make_target();
  std::vector<std::byte> memory(kSize);
  ASSERT_TRUE(target->register_memory(memory.data(), kSize).ok());
  const Initiator initiator(target->local_endpoint(), memory.data());
  std::this_thread::sleep_for(milliseconds(50));
  ASSERT_NO_FATAL_FAILURE(initiator.stop());
  const Stopwatch watch;
  target.reset();
  EXPECT_LT(watch.ms(), kPromptMs);
}

}  // namespace
}  // namespace te::test
