// Memory that no transport reaches, at either end and at both: it is staged in host memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "engine/staged_pair.h"

namespace te::test {
namespace {

struct Case {
  const char* transport;
  StagedPair::Ends ends;
};

void PrintTo(const Case& one, std::ostream* out) {
  *out << one.transport << ", " << ends_name(one.ends);
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const char* transport : {"tcp", "shm", "fabric:tcp"}) {
    for (const StagedPair::Ends& ends : kAllEnds) cases.push_back({transport, ends});
  }
  return cases;
}

class Staging : public testing::TestWithParam<Case> {
 protected:
  static constexpr uint64_t kPart = StagedPair::kPart;
  static constexpr uint64_t kSize = StagedPair::kSize;
  static constexpr Opcode kBoth[] = {Opcode::kWrite, Opcode::kRead};

  void SetUp() override {
    const std::unique_ptr<Engine> probe = make_engine({}, "");
    const Status installed = probe->install_transport(GetParam().transport);
    if (installed.code() == Code::kUnsupported) GTEST_SKIP() << installed.message();
    made_ = std::make_unique<StagedPair>(GetParam().transport, GetParam().ends, kNothing, kNothing);
  }
  StagedPair& pair() { return *made_; }

 private:
  static inline const std::map<std::string, std::string> kNothing;
  std::unique_ptr<StagedPair> made_;
};

TEST_P(Staging, MovesEveryByteInBothDirections) {
  for (const Opcode opcode : kBoth) {
    for (const uint64_t length :
         {uint64_t{1}, kPart - 1, kPart, kPart + 1, 2 * kPart, 5 * kPart + 777, kSize - 40}) {
      EXPECT_TRUE(pair().moves(opcode, 40, length)) << length;
    }
  }
  EXPECT_GT(pair().driver.copies.load(), 0u);
  EXPECT_LE(pair().driver.largest.load(), kPart) << "more than a part was copied at once";
}

TEST_P(Staging, ManyRequestsInOneBatchAndFromManyThreads) {
  constexpr uint64_t kEach = kSize / 32;
  stamp(pair().local(), kSize, 5);
  std::vector<TransferRequest> requests;
  for (uint64_t at = 0; at < kSize; at += kEach) {
    requests.push_back(pair().request(Opcode::kWrite, at, kEach));
  }
  EXPECT_EQ(transfer(pair().initiator(), requests).state, TaskState::kCompleted);
  EXPECT_EQ(difference(pair().remote(), kSize, 5), kSame);
  stamp(pair().remote(), kSize, 6);
  std::vector<std::thread> threads;
  std::atomic<int> completed{0};
  for (uint64_t i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const TransferRequest read = pair().request(Opcode::kRead, i * kSize / 8, kSize / 8);
      if (transfer(pair().initiator(), {read}).state == TaskState::kCompleted) ++completed;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(completed.load(), 8);
  EXPECT_EQ(difference(pair().local(), kSize, 6), kSame);
}

TEST_P(Staging, ANotificationComesAfterTheBytes) {
  stamp(pair().local(), kSize, 7);
  SubmitOptions options;
  options.notification = Notification{"done", "all of it"};
  const TransferRequest write = pair().request(Opcode::kWrite, 0, kSize);
  EXPECT_EQ(transfer(pair().initiator(), {write}, options).state, TaskState::kCompleted);
  EXPECT_EQ(difference(pair().remote(), kSize, 7), kSame);
  const std::vector<Notification> got = pair().target().take_notifications();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].name, "done");
}

TEST_P(Staging, AFailedCopyFailsTheRequestAndNothingElse) {
  for (const Opcode opcode : kBoth) {
    pair().driver.copies = 0;
    pair().driver.fails_after = 3;
    const BatchId batch = submit_new(pair().initiator(), {pair().request(opcode, 0, kSize)});
    ASSERT_TRUE(pair().initiator().wait(batch, std::chrono::seconds(20)).ok());
    EXPECT_EQ(pair().initiator().status(batch, 0)->state, TaskState::kFailed);
    const Result<TaskError> why = pair().initiator().task_error(batch, 0);
    ASSERT_TRUE(why.ok());
    EXPECT_NE(why->status.message().find("memory of kind 40"), std::string::npos)
        << why->status.to_string();
    EXPECT_NE(why->status.message().find("copy engine is on fire"), std::string::npos)
        << why->status.to_string();
    ASSERT_TRUE(pair().initiator().free_batch(batch).ok());
    pair().driver.fails_after = UINT64_MAX;
    // What a WRITE left behind may arrive until the next one does, so that covers all of it.
    const uint64_t at = opcode == Opcode::kWrite ? 0 : 8;
    EXPECT_TRUE(pair().moves(opcode, at, kSize - at)) << "it does not work any more";
  }
}

TEST_P(Staging, CancelledRequestsEndSoonAndTheirMemoryIsQuiet) {
  for (const Opcode opcode : kBoth) {
    pair().driver.takes_ms = 20;
    std::vector<TransferRequest> requests;
    for (int i = 0; i < 8; ++i) requests.push_back(pair().request(opcode, 0, kSize));
    const BatchId batch = submit_new(pair().initiator(), requests);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_TRUE(pair().initiator().cancel(batch).ok());
    ASSERT_TRUE(pair().initiator().wait(batch, std::chrono::seconds(20)).ok());
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
    EXPECT_EQ(pair().initiator().batch_status(batch)->state, TaskState::kCancelled);
    ASSERT_TRUE(pair().initiator().free_batch(batch).ok());
    // Nothing of it lands later: neither here, at once, nor there, after what comes next.
    pair().driver.takes_ms = 0;
    EXPECT_TRUE(pair().moves(opcode, 0, kSize));
    std::byte* const to = opcode == Opcode::kWrite ? pair().remote() : pair().local();
    const std::vector<std::byte> after(to, to + kSize);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_EQ(std::memcmp(to, after.data(), kSize), 0) << "something came late";
  }
}

TEST_P(Staging, DeadlinesHoldForWhatRunsAndForWhatWaits) {
  pair().driver.takes_ms = 30;
  std::vector<TransferRequest> requests;
  for (int i = 0; i < 12; ++i) requests.push_back(pair().request(Opcode::kWrite, 0, kSize));
  const auto begin = std::chrono::steady_clock::now();
  const BatchId batch = submit_new(pair().initiator(), requests, within(150));
  ASSERT_TRUE(pair().initiator().wait(batch, std::chrono::seconds(20)).ok());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(pair().initiator().status(batch, i)->state, TaskState::kTimeout) << i;
  }
  ASSERT_TRUE(pair().initiator().free_batch(batch).ok());
}

TEST_P(Staging, TheEngineEndsInTheMiddle) {
  pair().driver.takes_ms = 20;
  std::vector<TransferRequest> requests;
  for (int i = 0; i < 8; ++i) requests.push_back(pair().request(Opcode::kRead, 0, kSize));
  (void)submit_new(pair().initiator(), requests);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  pair().end_initiator();
}

TEST_P(Staging, WhatIsUnregisteredIsNotCopiedAnyMore) {
  ASSERT_TRUE(pair().moves(Opcode::kRead, 0, kSize));
  ASSERT_TRUE(pair().target().unregister_memory(pair().remote_memory()).ok());
  const uint64_t copies = pair().driver.copies.load();
  const BatchId batch =
      submit_new(pair().initiator(), {pair().request(Opcode::kWrite, 0, kPart)}, within(5'000));
  ASSERT_TRUE(pair().initiator().wait(batch, std::chrono::seconds(20)).ok());
  EXPECT_EQ(pair().initiator().status(batch, 0)->state, TaskState::kFailed);
  ASSERT_TRUE(pair().initiator().free_batch(batch).ok());
  if (!GetParam().ends.local) {
    EXPECT_EQ(pair().driver.copies.load(), copies);
  }
}

TEST_P(Staging, TheSegmentShowsWhatTheApplicationRegisteredAlone) {
  ASSERT_TRUE(pair().moves(Opcode::kWrite, 0, kSize));
  ASSERT_TRUE(pair().moves(Opcode::kRead, 0, kSize));
  const Result<SegmentInfo> info = pair().initiator().describe_segment(pair().segment);
  ASSERT_TRUE(info.ok());
  ASSERT_EQ(info->buffers.size(), 1u);
  EXPECT_EQ(info->buffers[0].address, reinterpret_cast<uint64_t>(pair().remote_memory()));
  std::vector<std::byte> more(4096);
  ASSERT_TRUE(pair().target().register_memory(more.data(), more.size(), "*").ok());
  const Result<SegmentInfo> then = pair().initiator().describe_segment(pair().segment);
  ASSERT_TRUE(then.ok());
  ASSERT_EQ(then->buffers.size(), 2u);
  EXPECT_EQ(then->buffers[1].offset, kSize) << "it does not lie behind the first";
  ASSERT_TRUE(pair().target().unregister_memory(more.data()).ok());
}

INSTANTIATE_TEST_SUITE_P(Ways, Staging, testing::ValuesIn(all_cases()), [](const auto& each) {
  std::string name = std::string(each.param.transport) + "_" + ends_name(each.param.ends);
  std::replace(name.begin(), name.end(), ':', '_');
  return name;
});

TEST(StagingLimits, ATargetWithoutRoomMakesRequestsWaitForTheirDeadline) {
  StagedPair pair("tcp", {false, true}, {}, {{"staging_bytes", "0"}});
  const BatchId batch =
      submit_new(pair.initiator(), {pair.request(Opcode::kRead, 0, 64)}, within(200));
  ASSERT_TRUE(pair.initiator().wait(batch, std::chrono::seconds(20)).ok());
  EXPECT_EQ(pair.initiator().status(batch, 0)->state, TaskState::kTimeout);
  ASSERT_TRUE(pair.initiator().free_batch(batch).ok());
}

TEST(StagingLimits, APeerWithoutRoomDoesNotHoldUpTheOthers) {
  StagedPair pair("tcp", {false, true}, {}, {{"staging_bytes", "0"}});
  FakeMemory elsewhere(pair.driver, StagedPair::kSize);
  const std::unique_ptr<Engine> other = make_engine();
  ASSERT_TRUE(other->register_memory(elsewhere.data(), elsewhere.size(), "*").ok());
  const Result<SegmentId> segment = pair.initiator().open_segment(other->local_endpoint());
  ASSERT_TRUE(segment.ok());
  stamp(elsewhere.view(), elsewhere.size(), 8);
  std::vector<TransferRequest> stuck(24, pair.request(Opcode::kRead, 0, 64));
  const BatchId batch = submit_new(pair.initiator(), stuck, within(5'000));
  const TransferRequest read{Opcode::kRead, pair.local_memory(), *segment,
                             reinterpret_cast<uint64_t>(elsewhere.data()), elsewhere.size()};
  EXPECT_EQ(transfer(pair.initiator(), {read}, within(4'000)).state, TaskState::kCompleted);
  EXPECT_EQ(difference(pair.local(), elsewhere.size(), 8), kSame);
  EXPECT_EQ(pair.initiator().batch_status(batch)->state, TaskState::kPending);
  ASSERT_TRUE(pair.initiator().cancel(batch).ok());
  ASSERT_TRUE(pair.initiator().free_batch(batch).ok());
}

TEST(StagingLimits, TheCopiesOfOneRequestOverlap) {
  StagedPair pair("tcp", {true, true}, {}, {});
  pair.driver.takes_ms = 10;
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    pair.driver.most_under_way = 0;
    EXPECT_TRUE(pair.moves(opcode, 0, StagedPair::kSize));
    EXPECT_GE(pair.driver.most_under_way.load(), 2) << "each end copies while the other one does";
  }
}

// Whatever path it takes, a later WRITE must not be overwritten.
TEST(StagingLimits, WritesWaitForTheCopyThatACancelledOneLeftBehind) {
  StagedPair pair("tcp", {false, true}, {}, {});
  ASSERT_TRUE(pair.moves(Opcode::kWrite, 0, StagedPair::kSize));
  std::vector<std::byte> host(4096);
  ASSERT_TRUE(pair.target().register_memory(host.data(), host.size(), "*").ok());
  const TransferRequest other{Opcode::kWrite, pair.local_memory(), pair.segment,
                              reinterpret_cast<uint64_t>(host.data()), host.size()};
  ASSERT_EQ(transfer(pair.initiator(), {other}).state, TaskState::kCompleted);
  pair.driver.takes_ms = 500;
  const BatchId batch =
      submit_new(pair.initiator(), {pair.request(Opcode::kWrite, 0, StagedPair::kPart)});
  ASSERT_TRUE(eventually([&] { return pair.driver.under_way.load() == 1; }));
  ASSERT_TRUE(pair.initiator().cancel(batch).ok());
  ASSERT_TRUE(pair.initiator().wait(batch, std::chrono::seconds(20)).ok());
  EXPECT_EQ(pair.driver.under_way.load(), 1) << "its end waited for the target";
  EXPECT_EQ(transfer(pair.initiator(), {other}).state, TaskState::kCompleted);
  EXPECT_EQ(pair.driver.under_way.load(), 0) << "the WRITE did not wait for it";
  ASSERT_TRUE(pair.initiator().free_batch(batch).ok());
  ASSERT_TRUE(pair.target().unregister_memory(host.data()).ok());
}

TEST(StagingLimits, ATargetThatRestartedIsFoundAgain) {
  StagedPair pair("tcp", {false, true}, {}, {});
  ASSERT_TRUE(pair.moves(Opcode::kWrite, 0, StagedPair::kSize));
  const std::vector<std::byte> before(pair.remote(), pair.remote() + StagedPair::kSize);
  FakeMemory fresh(pair.driver, StagedPair::kSize);
  ASSERT_NO_FATAL_FAILURE(pair.restart_target(fresh.data()));
  stamp(pair.local(), StagedPair::kSize, 77);
  const TransferRequest write{Opcode::kWrite, pair.local_memory(), pair.segment, 0,
                              StagedPair::kSize};
  EXPECT_EQ(transfer(pair.initiator(), {write}).state, TaskState::kCompleted);
  EXPECT_EQ(difference(fresh.view(), StagedPair::kSize, 77), kSame);
  EXPECT_EQ(std::memcmp(pair.remote(), before.data(), StagedPair::kSize), 0)
      << "memory of the earlier run was written";
  pair.end_target();
}

TEST(StagingLimits, ATargetThatIsGoneFailsRequestsInTheirTime) {
  StagedPair pair("tcp", {true, true}, {{"retry_window_ms", "200"}}, {});
  ASSERT_TRUE(pair.moves(Opcode::kRead, 0, StagedPair::kSize));
  pair.end_target();
  const auto begin = std::chrono::steady_clock::now();
  const BatchId batch = submit_new(
      pair.initiator(), {pair.request(Opcode::kWrite, 0, StagedPair::kSize)}, within(10'000));
  ASSERT_TRUE(pair.initiator().wait(batch, std::chrono::seconds(20)).ok());
  EXPECT_EQ(pair.initiator().status(batch, 0)->state, TaskState::kFailed);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  ASSERT_TRUE(pair.initiator().free_batch(batch).ok());
}

TEST(StagingLimits, AnEngineCopiesInsideItself) {
  StagedPair pair("tcp", {true, true}, {}, {});
  FakeMemory other(pair.driver, StagedPair::kSize);
  ASSERT_TRUE(pair.initiator().register_memory(other.data(), other.size(), "*").ok());
  stamp(pair.local(), StagedPair::kSize, 3);
  const TransferRequest write{Opcode::kWrite, pair.local_memory(), kLocalSegment,
                              reinterpret_cast<uint64_t>(other.data()), StagedPair::kSize};
  EXPECT_EQ(transfer(pair.initiator(), {write}).state, TaskState::kCompleted);
  EXPECT_EQ(difference(other.view(), StagedPair::kSize, 3), kSame);
  ASSERT_TRUE(pair.initiator().unregister_memory(other.data()).ok());
}

TEST(StagingLimits, HostMemoryTakesNoPartInIt) {
  StagedPair pair("tcp", {false, false}, {}, {});
  EXPECT_TRUE(pair.moves(Opcode::kWrite, 0, StagedPair::kSize));
  EXPECT_TRUE(pair.moves(Opcode::kRead, 0, StagedPair::kSize));
  EXPECT_EQ(pair.driver.copies.load(), 0u);
}

}  // namespace
}  // namespace te::test
