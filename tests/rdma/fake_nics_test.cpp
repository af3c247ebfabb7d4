// What no NIC does when asked to: registrations that fail or take long, and a NIC that dies. On
// the devices of support/fake_verbs.cpp, which belong to a recorded machine; no virtual one needed.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "base/log.h"
#include "engine/pair.h"
#include "support/bytes.h"
#include "support/facts.h"
#include "support/fake_verbs.h"
#include "support/fragile_memory.h"

namespace te::test {
namespace {

constexpr uint64_t kSize = 1 << 20;
constexpr uint64_t kPage = 4096;
constexpr int kTargetDevices[] = {4, 5};

class FakeNics : public testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_EQ(::setenv("HWLOC_XMLFILE", TE_MACHINE, 1), 0); }
  void SetUp() override { fake_verbs::reset(); }
  void TearDown() override {
    // What is left is what the engines leave.
    initiator_.reset();
    target_.reset();
    for (int device = 0; device < fake_verbs::kDevices; ++device) {
      EXPECT_EQ(fake_verbs::registered(device), 0) << "of mlx5_" << device;
    }
  }

  static std::unique_ptr<Engine> make(const std::string& nics) {
    return make_engine({{"rdma_library", TE_FAKE_VERBS}, {"nics", nics}}, "rdma");
  }
  void begin(const std::string& here = "mlx5_0,mlx5_1",
             const std::string& there = "mlx5_4,mlx5_5") {
    target_ = make(there);
    initiator_ = make(here);
    ASSERT_TRUE(target_ && initiator_);
    ASSERT_TRUE(target_->register_memory(remote_.data(), kSize, "cpu:0").ok());
    ASSERT_TRUE(initiator_->register_memory(local_.data(), kSize, "cpu:0").ok());
    const Result<SegmentId> segment = initiator_->open_segment(target_->local_endpoint());
    ASSERT_TRUE(segment.ok()) << segment.status().to_string();
    segment_ = *segment;
    ASSERT_TRUE(initiator_->warmup_segment(target_->local_endpoint()).ok());
  }
  std::vector<TransferRequest> writes(uint64_t count) {
    std::vector<TransferRequest> requests;
    const uint64_t piece = kSize / count;
    for (uint64_t at = 0; at < kSize; at += piece) {
      requests.push_back({Opcode::kWrite, local_.data() + at, segment_,
                          reinterpret_cast<uint64_t>(remote_.data()) + at, piece});
    }
    return requests;
  }
  void expect_works(uint64_t seed) {
    stamp(local_.data(), kSize, seed);
    EXPECT_EQ(transfer(*initiator_, writes(16)).state, TaskState::kCompleted);
    EXPECT_EQ(difference(remote_.data(), kSize, seed), kSame);
  }
  // Of the initiator's paths through that device.
  bool all_failed(const std::string& device) {
    for (const PathInfo& path : initiator_->paths()) {
      if (path.local_device == device && path.state != "failed") return false;
    }
    return true;
  }

  std::vector<std::byte> local_ = std::vector<std::byte>(kSize);
  std::vector<std::byte> remote_ = std::vector<std::byte>(kSize);
  std::unique_ptr<Engine> target_, initiator_;
  SegmentId segment_ = -1;
};

TEST_F(FakeNics, MoveBytes) {
  begin();
  expect_works(1);
}

TEST_F(FakeNics, MemoryRegisteredAgainIsKnownByItsNewKeys) {
  begin();
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    expect_works(seed);
    ASSERT_TRUE(initiator_->unregister_memory(local_.data()).ok());
    ASSERT_TRUE(initiator_->register_memory(local_.data(), kSize, "cpu:0").ok());
  }
}

TEST_F(FakeNics, ThreadsThatPostAtTheSameTimeLoseNothing) {
  constexpr uint64_t kThreads = 4, kRounds = 200, kPiece = 4096;
  begin();
  stamp(local_.data(), kSize, 1);
  std::vector<std::thread> threads;
  std::atomic<uint64_t> completed{0};
  for (uint64_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (uint64_t at = thread * kPiece, i = 0; i < kRounds; ++i, at += kThreads * kPiece) {
        const TransferRequest write{Opcode::kWrite, local_.data() + at % kSize, segment_,
                                    reinterpret_cast<uint64_t>(remote_.data()) + at % kSize,
                                    kPiece};
        if (transfer(*initiator_, {write}).state == TaskState::kCompleted) ++completed;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(completed.load(), kThreads * kRounds);
  EXPECT_EQ(difference(remote_.data(), kSize, 1), kSame);
}

TEST_F(FakeNics, MemoryIsRegisteredWithAllNicsAtTheSameTimeAndOnceEach) {
  initiator_ = make("mlx5_0,mlx5_1,mlx5_2,mlx5_3");
  ASSERT_NE(initiator_, nullptr);
  fake_verbs::gather_registrations(4);
  ASSERT_TRUE(initiator_->register_memory(local_.data(), kSize, "cpu:0").ok());
  EXPECT_EQ(fake_verbs::most_registrations_at_once(), 4) << "they wait for each other";
  for (int device = 0; device < fake_verbs::kDevices; ++device) {
    EXPECT_EQ(fake_verbs::registrations(device, local_.data()), device < 4 ? 1 : 0) << device;
  }
  ASSERT_TRUE(initiator_->unregister_memory(local_.data()).ok());
  for (int device = 0; device < 4; ++device) EXPECT_EQ(fake_verbs::registered(device), 0);
}

TEST_F(FakeNics, AFailedRegistrationTellsTheNicTheSizeTheLimitsAndWhatToDo) {
  initiator_ = make("mlx5_0,mlx5_1,mlx5_2,mlx5_3");
  ASSERT_NE(initiator_, nullptr);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &before), 0);
  rlimit low = before;
  low.rlim_cur = 64 << 10;
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &low), 0);
  fake_verbs::refuse_registrations(2, ENOMEM);
  const Status refused = initiator_->register_memory(local_.data(), kSize, "cpu:0");
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &before), 0);
  EXPECT_EQ(refused.code(), Code::kResource);
  for (const char* told :
       {"mlx5_2", "1048576 bytes", "Cannot allocate memory", "ulimit -l is 64 KiB",
        "max_mr_size 1099511627776", "Raise ulimit -l", "CAP_IPC_LOCK", "rdma_max_registration"}) {
    EXPECT_NE(refused.message().find(told), std::string::npos) << told << ": " << refused.message();
  }
  for (int device = 0; device < 4; ++device) {
    EXPECT_EQ(fake_verbs::registered(device), 0) << "left with mlx5_" << device;
  }
  fake_verbs::refuse_registrations(2, 0);
  EXPECT_TRUE(initiator_->register_memory(local_.data(), kSize, "cpu:0").ok());
}

TEST_F(FakeNics, WhatWasUnderWayOnANicThatDiesGoesByAnother) {
  begin();
  expect_works(1);
  fake_verbs::hold(0);
  stamp(local_.data(), kSize, 2);
  const BatchId batch = *initiator_->allocate_batch(16);
  ASSERT_TRUE(initiator_->submit(batch, writes(16)).ok());
  ASSERT_TRUE(eventually([] { return fake_verbs::held(0) > 0; }));
  EXPECT_EQ(initiator_->batch_status(batch)->state, TaskState::kPending);
  fake_verbs::lose(0);
  ASSERT_TRUE(initiator_->wait(batch, kPatience).ok());
  EXPECT_EQ(initiator_->batch_status(batch)->state, TaskState::kCompleted);
  EXPECT_EQ(difference(remote_.data(), kSize, 2), kSame);
  EXPECT_EQ(fake_verbs::held(0), 0) << "the NIC may still touch the memory";
  EXPECT_TRUE(initiator_->free_batch(batch).ok());
  EXPECT_TRUE(all_failed("mlx5_0"));
  expect_works(3);
  // Memory is registered with what is left.
  std::vector<std::byte> more(kSize);
  ASSERT_TRUE(initiator_->register_memory(more.data(), kSize, "cpu:0").ok());
  EXPECT_EQ(fake_verbs::registrations(0, more.data()), 0);
  EXPECT_EQ(fake_verbs::registrations(1, more.data()), 1);
  EXPECT_TRUE(initiator_->unregister_memory(more.data()).ok());
}

// No ghost writes: what is repeated over another NIC waits until the target has destroyed the
// queue pair that the packets still in the network are sent to.
TEST_F(FakeNics, PacketsOfANicThatDiesDoNotLandAfterTheirRepetition) {
  begin();
  expect_works(1);
  fake_verbs::delay(0);
  stamp(local_.data(), kSize, 2);
  const BatchId batch = *initiator_->allocate_batch(16);
  ASSERT_TRUE(initiator_->submit(batch, writes(16)).ok());
  ASSERT_TRUE(eventually([] { return fake_verbs::held(0) > 0; }));
  fake_verbs::lose(0);
  ASSERT_TRUE(initiator_->wait(batch, kPatience).ok());
  EXPECT_EQ(initiator_->batch_status(batch)->state, TaskState::kCompleted);
  EXPECT_EQ(fake_verbs::late_landings(), 0);
  EXPECT_EQ(difference(remote_.data(), kSize, 2), kSame);
  EXPECT_TRUE(initiator_->free_batch(batch).ok());
}

TEST_F(FakeNics, PacketsOfAWriteThatTimedOutDoNotLandAfterTheNext) {
  begin();
  expect_works(1);
  fake_verbs::delay(0);
  stamp(local_.data(), kSize, 2);
  EXPECT_EQ(transfer(*initiator_, writes(16), within(300)).state, TaskState::kTimeout);
  fake_verbs::let_go(0);
  expect_works(3);
  EXPECT_EQ(fake_verbs::late_landings(), 0);
}

TEST_F(FakeNics, ATaskEndsSoonAfterItsDeadlineThoughTheNicKeepsItsWork) {
  begin();
  for (uint64_t round = 0; round < 5; ++round) {
    expect_works(round);
    for (const int device : {0, 1}) fake_verbs::hold(device);
    const Stopwatch watch;
    EXPECT_EQ(transfer(*initiator_, writes(16), within(300)).state, TaskState::kTimeout);
    EXPECT_GE(watch.ms(), 290);
    EXPECT_LT(watch.ms(), 300 + 250);
    for (const int device : {0, 1}) fake_verbs::let_go(device);
  }
}

// A NIC may be slow, and what is cancelled waits for what was posted.
TEST_F(FakeNics, ALargeBatchIsUnderWayInPartOnly) {
  constexpr uint64_t kCount = 256;
  begin("mlx5_0", "mlx5_4");
  expect_works(1);
  fake_verbs::hold(0);
  const TransferRequest write{Opcode::kWrite, local_.data(), segment_,
                              reinterpret_cast<uint64_t>(remote_.data()), kSize};
  const BatchId batch = *initiator_->allocate_batch(kCount);
  ASSERT_TRUE(initiator_->submit(batch, std::vector(kCount, write)).ok());
  EXPECT_EQ(fake_verbs::held_bytes(0), 32 * kSize);
  ASSERT_TRUE(initiator_->cancel(batch).ok());
  ASSERT_TRUE(initiator_->wait(batch, kPatience).ok());
  EXPECT_TRUE(initiator_->free_batch(batch).ok());
  fake_verbs::let_go(0);
  expect_works(2);
}

TEST_F(FakeNics, WithoutANicLeftATaskEndsInTimeAndTheMemoryIsQuiet) {
  begin();
  expect_works(1);
  for (const int device : {0, 1}) fake_verbs::hold(device);
  const BatchId batch = *initiator_->allocate_batch(16);
  SubmitOptions options;
  options.timeout = std::chrono::milliseconds(1'500);
  ASSERT_TRUE(initiator_->submit(batch, writes(16), options).ok());
  ASSERT_TRUE(eventually([] { return fake_verbs::held(0) > 0 && fake_verbs::held(1) > 0; }));
  for (const int device : {0, 1}) fake_verbs::lose(device);
  ASSERT_TRUE(initiator_->wait(batch, kPatience).ok());
  const TaskState end = initiator_->batch_status(batch)->state;
  EXPECT_TRUE(end == TaskState::kFailed || end == TaskState::kTimeout) << static_cast<int>(end);
  for (const int device : {0, 1}) EXPECT_EQ(fake_verbs::held(device), 0);
  EXPECT_TRUE(initiator_->free_batch(batch).ok());
  EXPECT_TRUE(all_failed("mlx5_0") && all_failed("mlx5_1"));
}

TEST_F(FakeNics, EventsThatChangeNothingDisturbNothing) {
  begin();
  for (const ibv_event_type event : {IBV_EVENT_PORT_ACTIVE, IBV_EVENT_LID_CHANGE,
                                     IBV_EVENT_COMM_EST, IBV_EVENT_SRQ_LIMIT_REACHED}) {
    for (const int device : kTargetDevices) fake_verbs::raise(device, event);
    for (const int device : {0, 1}) fake_verbs::raise(device, event);
    expect_works(static_cast<uint64_t>(event));
  }
  for (const PathInfo& path : initiator_->paths()) EXPECT_EQ(path.failed_slices, 0u);
}

// Of one that is short enough, the bytes travel inside the request: the verbs library copies them
// when it is posted, with plain instructions.
TEST_F(FakeNics, MemoryThatIsGoneWhenAShortWriteIsPostedFailsItAlone) {
  begin();
  FragileMemory fragile(2 * kPage);
  ASSERT_TRUE(initiator_->register_memory(fragile.data(), 2 * kPage, "cpu:0").ok());
  for (const Damage damage : {Damage::kProtected, Damage::kUnmapped, Damage::kTruncated}) {
    SCOPED_TRACE(name_of(damage));
    stamp(fragile.data(), kPage, 5);
    const auto write_from = [&](uint64_t at) {
      return TransferRequest{Opcode::kWrite, fragile.data() + at, segment_,
                             reinterpret_cast<uint64_t>(remote_.data()), 64};
    };
    ASSERT_EQ(transfer(*initiator_, {write_from(kPage)}).state, TaskState::kCompleted);
    ASSERT_TRUE(fragile.damage(damage, kPage, kPage));
    const Result<BatchId> batch = initiator_->allocate_batch(1);
    ASSERT_TRUE(batch.ok());
    ASSERT_TRUE(initiator_->submit(*batch, {{write_from(kPage)}}).ok());
    ASSERT_TRUE(initiator_->wait(*batch, kPatience).ok());
    EXPECT_EQ(initiator_->status(*batch, 0)->state, TaskState::kFailed);
    EXPECT_TRUE(fails_with(initiator_->task_error(*batch, 0)->status, Code::kInvalidArgument,
                           "the local memory"));
    EXPECT_TRUE(initiator_->free_batch(*batch).ok());
    EXPECT_EQ(transfer(*initiator_, {write_from(0)}).state, TaskState::kCompleted);
    EXPECT_EQ(difference(remote_.data(), 64, 5), kSame);
    ASSERT_TRUE(fragile.restore());
  }
  EXPECT_TRUE(initiator_->unregister_memory(fragile.data()).ok());
}

// A registration that waits for its NICs for seconds.
TEST_F(FakeNics, TransfersAndLookUpsGoOnWhileMemoryIsRegistered) {
  begin();
  std::vector<std::byte> more(kSize);
  fake_verbs::gather_registrations(99);
  std::atomic<bool> registered{false};
  std::thread slow([&] {
    EXPECT_TRUE(initiator_->register_memory(more.data(), kSize, "cpu:0").ok());
    registered = true;
  });
  EXPECT_TRUE(eventually([] { return fake_verbs::most_registrations_at_once() == 2; }));
  for (uint64_t seed = 1; seed <= 20; ++seed) expect_works(seed);
  // What others ask of this engine, and it of others.
  const Result<SegmentId> back = target_->open_segment(initiator_->local_endpoint());
  EXPECT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_TRUE(initiator_->sync_segment_cache().ok());
  TransferRequest from_more{Opcode::kWrite, more.data(), segment_,
                            reinterpret_cast<uint64_t>(remote_.data()), kSize};
  const BatchId batch = *initiator_->allocate_batch(1);
  EXPECT_EQ(initiator_->submit(batch, {&from_more, 1}).code(), Code::kInvalidArgument)
      << "it is not registered yet";
  EXPECT_TRUE(initiator_->free_batch(batch).ok());
  EXPECT_FALSE(registered) << "something waited for it";
  slow.join();
  stamp(more.data(), kSize, 77);
  EXPECT_EQ(transfer(*initiator_, {from_more}).state, TaskState::kCompleted);
  EXPECT_EQ(difference(remote_.data(), kSize, 77), kSame);
  EXPECT_TRUE(initiator_->unregister_memory(more.data()).ok());
}

// More peers than there may be endpoints: they give way to each other.
TEST_F(FakeNics, NoMoreEndpointsAreAliveThanAreAllowed) {
  constexpr size_t kPeers = 12;
  constexpr int kEndpoints = 4;
  fake_verbs::reset();
  initiator_ = make_engine({{"rdma_library", TE_FAKE_VERBS},
                            {"nics", "mlx5_0,mlx5_1"},
                            {"rdma_endpoints", std::to_string(kEndpoints)}},
                           "rdma");
  ASSERT_TRUE(initiator_);
  ASSERT_TRUE(initiator_->register_memory(local_.data(), kSize, "cpu:0").ok());
  struct Target {
    std::unique_ptr<Engine> engine = make("mlx5_4,mlx5_5");
    std::vector<std::byte> memory = std::vector<std::byte>(kSize);
    SegmentId segment = -1;
  };
  std::vector<Target> targets(kPeers);
  for (Target& target : targets) {
    ASSERT_TRUE(target.engine);
    ASSERT_TRUE(target.engine->register_memory(target.memory.data(), kSize, "cpu:0").ok());
    const Result<SegmentId> id = initiator_->open_segment(target.engine->local_endpoint());
    ASSERT_TRUE(id.ok()) << id.status().to_string();
    target.segment = *id;
  }
  for (uint64_t round = 1; round <= 3; ++round) {
    stamp(local_.data(), kSize, round);
    std::vector<std::thread> threads;
    for (Target& target : targets) {
      threads.emplace_back([&] {
        std::vector<TransferRequest> requests;
        for (uint64_t at = 0; at < kSize; at += kSize / 16) {
          requests.push_back({Opcode::kWrite, local_.data() + at, target.segment,
                              reinterpret_cast<uint64_t>(target.memory.data()) + at, kSize / 16});
        }
        EXPECT_EQ(transfer(*initiator_, requests).state, TaskState::kCompleted);
        EXPECT_EQ(difference(target.memory.data(), kSize, round), kSame);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  const int most = fake_verbs::most_pairs_at_once(0) + fake_verbs::most_pairs_at_once(1);
  EXPECT_GT(most, 0);
  EXPECT_LE(most, kEndpoints);
}

// A peer can make a path fail as often as it likes.
TEST_F(FakeNics, WhatFailsOverAndOverFillsNoLog) {
  begin();
  static std::atomic<int> lines;
  lines = 0;
  set_log_level(LogLevel::kInfo);
  set_log_hook([](LogLevel, std::string_view) { ++lines; });
  for (uint64_t round = 1; round <= 50; ++round) {
    for (const bool up : {false, true}) {
      fake_verbs::set_port(0, up);
      expect_works(2 * round + (up ? 1 : 0));
    }
  }
  set_log_hook(nullptr);
  set_log_level(LogLevel::kWarning);
  EXPECT_GE(lines.load(), 2);
  EXPECT_LT(lines.load(), 20);
}

}  // namespace
}  // namespace te::test
