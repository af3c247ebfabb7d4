// A process without a free file descriptor: peers that it knows notice nothing, those that are new
// are told so, and nothing spins or fills the log.
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "base/waker.h"
#include "engine/pair.h"
#include "engine/raw_peer.h"
#include "support/no_descriptors.h"
#include "support/peer.h"

namespace te::test {
namespace {

constexpr uint64_t kSize = 1 << 20;

class Target {
 public:
  explicit Target(uint64_t descriptors = 0) {
    PeerOptions options;
    options.size = kSize;
    options.seed = 3;
    options.transport = "tcp";
    options.descriptors = descriptors;
    process_ = std::make_unique<PeerProcess>(options);
  }
  PeerProcess& operator*() { return *process_; }
  PeerProcess* operator->() { return process_.get(); }

 private:
  std::unique_ptr<PeerProcess> process_;
};

class KnownPeer {
 public:
  explicit KnownPeer(PeerProcess& target)
      : target_(target), engine_(make_engine()), local_(*engine_, kSize) {
    const Result<SegmentId> id = engine_->open_segment(target.segment());
    EXPECT_TRUE(id.ok()) << id.status().to_string();
    if (id.ok()) segment_ = *id;
  }

  Engine& engine() { return *engine_; }
  TransferRequest read() { return {Opcode::kRead, local_.data(), segment_, 0, kSize}; }
  bool reads() {
    std::memset(local_.data(), 0, kSize);
    return transfer(*engine_, {read()}).state == TaskState::kCompleted && holds_the_pattern();
  }
  bool holds_the_pattern() { return difference(local_.data(), kSize, 3) == kSame; }
  Status notify() { return engine_->notify(segment_, {"name", "message"}); }

 private:
  PeerProcess& target_;
  const std::unique_ptr<Engine> engine_;
  Registered local_;
  SegmentId segment_ = -1;
};

Code first_answer(RawConnection& connection) {
  const std::string bytes = connection.receive(wire::HelloAnswer::kSize, 5'000);
  const Result<wire::HelloAnswer> answer = wire::HelloAnswer::decode(as_bytes(bytes));
  return answer.ok() ? answer->code : Code::kInternal;
}

TEST(Descriptors, ATargetWithoutAnyServesItsPeersAndRefusesOthers) {
  Target target(64);
  KnownPeer known(*target);
  ASSERT_TRUE(known.reads());
  ASSERT_EQ(target->ask("hold"), "ok");
  ASSERT_TRUE(known.notify().ok());

  const int64_t cpu_before_ms = cpu_ms(target->pid());
  for (int i = 0; i < 30; ++i) {
    RawConnection newcomer(target->endpoint());
    ASSERT_TRUE(newcomer.connected());
    if (i % 2 == 0) newcomer.send(control_hello());
    EXPECT_EQ(first_answer(newcomer), Code::kBusy) << i;
    EXPECT_TRUE(newcomer.ended_by_peer());
  }
  // What waits in the queue from here on must not be looked at again and again.
  RawConnection waiting(target->endpoint());
  std::this_thread::sleep_for(std::chrono::milliseconds(1'000));
  EXPECT_LT(cpu_ms(target->pid()) - cpu_before_ms, 500) << "it spins";
  EXPECT_LE(std::stoi(target->ask("logged")), 3);

  const std::unique_ptr<Engine> late = make_engine({{"connect_timeout_ms", "300"}});
  EXPECT_TRUE(fails_with(late->open_segment(target->segment()), Code::kBusy, "ulimit -n"));
  EXPECT_TRUE(known.notify().ok());
  EXPECT_TRUE(known.reads());

  ASSERT_EQ(target->ask("release"), "ok");
  KnownPeer another(*target);
  EXPECT_TRUE(another.reads());
  EXPECT_TRUE(known.reads());
  EXPECT_EQ(target->ask("notifications"), "2");
}

TEST(Descriptors, ManyNewcomersAreAnsweredOneByOne) {
  Target target(64);
  KnownPeer known(*target);
  ASSERT_TRUE(known.reads());
  ASSERT_EQ(target->ask("hold"), "ok");
  std::vector<RawConnection> crowd;
  for (int i = 0; i < 500; ++i) {
    crowd.emplace_back(target->endpoint());
    crowd.back().send(control_hello());
  }
  for (RawConnection& newcomer : crowd) EXPECT_EQ(first_answer(newcomer), Code::kBusy);
  EXPECT_TRUE(known.notify().ok());
  EXPECT_LE(std::stoi(target->ask("logged")), 3);
}

// Its limits follow the descriptors that it may have, so there are some left for its own use.
TEST(Descriptors, PeersCannotTakeTheLastOnes) {
  Target target(64);
  KnownPeer known(*target);
  ASSERT_TRUE(known.reads());
  std::vector<RawConnection> crowd;
  int let_in = 0, refused = 0;
  for (int i = 0; i < 200; ++i) {
    crowd.emplace_back(target->endpoint());
    crowd.back().send(control_hello());
    const Code code = first_answer(crowd.back());
    let_in += code == Code::kOk ? 1 : 0;
    refused += code == Code::kBusy ? 1 : 0;
  }
  EXPECT_GT(let_in, 0);
  EXPECT_EQ(let_in + refused, 200);
  EXPECT_LT(open_descriptors(target->pid()), 60u);
  EXPECT_TRUE(known.notify().ok());
  EXPECT_TRUE(known.reads());
}

TEST(Descriptors, TheFirstTransferWaitsUntilThereAreSome) {
  Target target;
  KnownPeer known(*target);
  Waker::of_this_thread();
  BatchId batch = kInvalidBatch;
  {
    const NoDescriptors none;
    batch = submit_new(known.engine(), {known.read()});
    EXPECT_FALSE(known.engine().wait(batch, std::chrono::milliseconds(700)).ok());
    EXPECT_EQ(known.engine().batch_status(batch)->state, TaskState::kPending);
  }
  EXPECT_TRUE(known.engine().wait(batch, kPatience).ok());
  EXPECT_EQ(known.engine().batch_status(batch)->state, TaskState::kCompleted)
      << known.engine().task_error(batch, 0)->status.to_string();
  EXPECT_TRUE(known.holds_the_pattern());
  EXPECT_TRUE(known.engine().free_batch(batch).ok());
}

TEST(Descriptors, ATransferThatNeverGetsOneSaysWhichLimitItIs) {
  Target target;
  KnownPeer known(*target);
  Waker::of_this_thread();
  const NoDescriptors none;
  const BatchId batch = submit_new(known.engine(), {known.read()}, within(600));
  EXPECT_TRUE(known.engine().wait(batch, kPatience).ok());
  const Result<TaskError> why = known.engine().task_error(batch, 0);
  ASSERT_TRUE(why.ok());
  EXPECT_NE(why->status.message().find("RLIMIT_NOFILE"), std::string::npos)
      << why->status.to_string();
  EXPECT_EQ(why->status.message().find("did not answer"), std::string::npos)
      << "the target is blamed: " << why->status.to_string();
  EXPECT_TRUE(known.engine().free_batch(batch).ok());
}

TEST(Descriptors, OpeningASegmentWaitsForOneToo) {
  Target target;
  const std::unique_ptr<Engine> engine = make_engine({{"connect_timeout_ms", "10000"}});
  Result<SegmentId> opened = Status(Code::kInternal, "not tried");
  auto none = std::make_unique<NoDescriptors>();
  std::thread opening([&] { opened = engine->open_segment(target->segment()); });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  none.reset();
  opening.join();
  EXPECT_TRUE(opened.ok()) << opened.status().to_string();

  const std::unique_ptr<Engine> hasty = make_engine({{"connect_timeout_ms", "200"}});
  const NoDescriptors again;
  EXPECT_TRUE(fails_with(hasty->open_segment(target->segment()), Code::kResource, "RLIMIT_NOFILE"));
}

}  // namespace
}  // namespace te::test
