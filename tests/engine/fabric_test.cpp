// The libfabric transport beyond what the conformance suite shows: cards, pieces, counters, peers
// that die or stand still, and machines without the library.
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "base/log.h"
#include "base/thread_annotations.h"
#include "engine/pair.h"
#include "rdma/devices.h"
#include "support/peer.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;
using Settings = std::map<std::string, std::string>;

const Settings kOneCard = {{"fabric_addresses", "127.0.0.1"}};
const Settings kTwoCards = {{"fabric_addresses", "127.0.0.1,127.0.0.2"}};

// Null where libfabric has no such provider.
std::unique_ptr<Engine> make_fabric_engine(const Settings& settings, std::string* why,
                                           const char* transport = "fabric:tcp") {
  std::unique_ptr<Engine> engine = make_engine(settings, "");
  const Status installed = engine->install_transport(transport);
  if (installed.ok()) return engine;
  *why = installed.message();
  EXPECT_EQ(installed.code(), Code::kUnsupported);
  return nullptr;
}

struct Totals {
  uint64_t completed = 0;
  uint64_t failed = 0;
  uint64_t inflight = 0;
  uint64_t ready = 0;
  uint64_t paths = 0;
};

Totals totals(Engine& engine) {
  Totals result;
  for (const PathInfo& path : engine.paths()) {
    result.completed += path.completed_slices;
    result.failed += path.failed_slices;
    result.inflight += path.inflight_bytes;
    result.ready += path.state == "ready" ? 1 : 0;
    ++result.paths;
  }
  return result;
}

// What the cards of engines that ended meanwhile say of their operations.
class Operations {
 public:
  struct Sum {
    uint64_t posted = 0;
    uint64_t completed = 0;
    uint64_t failed = 0;
    uint64_t ended = 0;  // with the endpoint
    uint64_t cards = 0;
  };

  Operations() {
    set_log_level(LogLevel::kDebug);
    set_log_hook([this](LogLevel level, std::string_view line) {
      const size_t name = line.rfind(": ", line.find(" operations: "));
      const bool counts = level == LogLevel::kDebug && name != std::string_view::npos;
      if (level < LogLevel::kInfo)
        std::printf("%.*s\n", static_cast<int>(line.size()), line.data());
      Sum one;
      if (!counts || std::sscanf(std::string(line.substr(name)).c_str(),
                                 ": %lu operations: %lu completed, %lu failed, %lu ended",
                                 &one.posted, &one.completed, &one.failed, &one.ended) != 4) {
        return;
      }
      MutexLock lock(mutex_);
      sum_.posted += one.posted;
      sum_.completed += one.completed;
      sum_.failed += one.failed;
      sum_.ended += one.ended;
      ++sum_.cards;
    });
  }
  ~Operations() {
    set_log_hook(nullptr);
    set_log_level(LogLevel::kWarning);
  }
  Operations(const Operations&) = delete;
  Operations& operator=(const Operations&) = delete;

  Sum sum() const {
    MutexLock lock(mutex_);
    return sum_;
  }
  // Every post of so many cards ended in one completion.
  testing::AssertionResult none_vanished(uint64_t cards) const {
    const Sum all = sum();
    if (all.cards == cards && all.posted > 0 &&
        all.posted == all.completed + all.failed + all.ended) {
      return testing::AssertionSuccess();
    }
    return testing::AssertionFailure()
           << all.cards << " cards: " << all.posted << " posted, " << all.completed
           << " completed, " << all.failed << " failed, " << all.ended << " ended";
  }

 private:
  mutable Mutex mutex_;
  Sum sum_ TE_GUARDED_BY(mutex_);
};

// Two engines and memory of both.
class Fabric : public testing::Test {
 protected:
  // Ends both; then the counters are known.
  void end() {
    local_.reset();
    remote_.reset();
    initiator_.reset();
    target_.reset();
  }
  // The bytes that each local device moved.
  std::map<std::string, uint64_t> moved_by_device() {
    std::map<std::string, uint64_t> result;
    for (const PathInfo& path : initiator_->paths()) {
      result[path.local_device] += path.completed_bytes;
    }
    return result;
  }
  // False where libfabric is missing; the test is then skipped.
  bool begin(const Settings& settings, uint64_t size, const char* transport = "fabric:tcp") {
    initiator_ = make_fabric_engine(settings, &why_, transport);
    if (!initiator_) return false;
    target_ = make_fabric_engine(settings, &why_, transport);
    local_ = std::make_unique<Registered>(*initiator_, size);
    remote_ = std::make_unique<Registered>(*target_, size);
    const Result<SegmentId> id = initiator_->open_segment(target_->local_endpoint());
    EXPECT_TRUE(id.ok()) << id.status().to_string();
    segment_ = id.ok() ? *id : -1;
    return true;
  }
  TransferRequest request(Opcode opcode, uint64_t at, uint64_t length) {
    return {opcode, local_->data() + at, segment_, reinterpret_cast<uint64_t>(remote_->data()) + at,
            length};
  }

  std::string why_;
  std::unique_ptr<Engine> initiator_;
  std::unique_ptr<Engine> target_;
  std::unique_ptr<Registered> local_;
  std::unique_ptr<Registered> remote_;
  SegmentId segment_ = -1;
};

TEST_F(Fabric, SixtyFourRequestsMove128MiBBothWays) {
  constexpr uint64_t kCount = 64, kPiece = 2 << 20;
  if (!begin(kOneCard, kCount * kPiece)) GTEST_SKIP() << why_;
  fill(local_->data(), local_->size(), 1);
  std::vector<TransferRequest> requests;
  for (uint64_t i = 0; i < kCount; ++i) {
    requests.push_back(request(Opcode::kWrite, i * kPiece, kPiece));
  }
  ASSERT_EQ(transfer(*initiator_, requests).state, TaskState::kCompleted);
  EXPECT_EQ(first_difference(remote_->data(), remote_->size(), 1), remote_->size());
  fill(remote_->data(), remote_->size(), 2);
  for (TransferRequest& each : requests) each.opcode = Opcode::kRead;
  ASSERT_EQ(transfer(*initiator_, requests).state, TaskState::kCompleted);
  EXPECT_EQ(first_difference(local_->data(), local_->size(), 2), local_->size());
  const Totals after = totals(*initiator_);
  EXPECT_EQ(after.completed, 2 * kCount * (kPiece >> 20)) << "one end for each slice";
  EXPECT_EQ(after.failed, 0u);
  EXPECT_EQ(after.inflight, 0u);
}

TEST_F(Fabric, TwentyBatchesOfEightAtOnce) {
  constexpr uint64_t kBatches = 20, kRequests = 8, kPiece = 100'003;
  if (!begin(kTwoCards, kBatches * kRequests * kPiece)) GTEST_SKIP() << why_;
  for (uint64_t round = 0; round < 5; ++round) {
    fill(local_->data(), local_->size(), round);
    std::atomic<uint64_t> completed{0};
    std::vector<std::thread> threads;
    for (uint64_t batch = 0; batch < kBatches; ++batch) {
      threads.emplace_back([&, batch] {
        std::vector<TransferRequest> requests;
        for (uint64_t i = 0; i < kRequests; ++i) {
          requests.push_back(request(Opcode::kWrite, (batch * kRequests + i) * kPiece, kPiece));
        }
        if (transfer(*initiator_, requests).state == TaskState::kCompleted) ++completed;
      });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(completed.load(), kBatches);
    ASSERT_EQ(first_difference(remote_->data(), remote_->size(), round), remote_->size());
  }
  const Totals after = totals(*initiator_);
  EXPECT_EQ(after.completed, 5 * kBatches * kRequests) << "one end for each slice";
  EXPECT_EQ(after.failed, 0u);
}

TEST_F(Fabric, SlicesOfOneRequestUseAllCards) {
  constexpr uint64_t kSize = 64 << 20;
  if (!begin(kTwoCards, kSize)) GTEST_SKIP() << why_;
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    auto before = moved_by_device();
    std::byte* const source = opcode == Opcode::kWrite ? local_->data() : remote_->data();
    std::byte* const arrives = opcode == Opcode::kWrite ? remote_->data() : local_->data();
    fill(source, kSize, static_cast<uint64_t>(opcode) + 1);
    // The first connects the cards.
    for (int round = 0; round < 3; ++round) {
      std::fill_n(arrives, kSize, std::byte{0});
      ASSERT_EQ(transfer(*initiator_, {request(opcode, 0, kSize)}).state, TaskState::kCompleted);
      ASSERT_EQ(std::memcmp(source, arrives, kSize), 0);
    }
    const auto after = moved_by_device();
    EXPECT_EQ(after.size(), 2u);
    for (const auto& [device, bytes] : after) {
      EXPECT_GE(bytes - before[device], kSize / 4) << device;
    }
  }
  EXPECT_EQ(totals(*initiator_).failed, 0u);
  EXPECT_EQ(totals(*initiator_).inflight, 0u);
}

TEST_F(Fabric, ABatchLargerThanTheQueuesEndsOnceForEachPost) {
  constexpr uint64_t kCount = 20'000, kPiece = 200;
  for (const Settings& settings : {kOneCard, kTwoCards}) {
    const Operations operations;
    if (!begin(settings, kCount * kPiece)) GTEST_SKIP() << why_;
    fill(local_->data(), local_->size(), 8);
    std::vector<TransferRequest> requests;
    for (uint64_t i = 0; i < kCount; ++i) {
      requests.push_back(request(Opcode::kWrite, i * kPiece, kPiece));
    }
    ASSERT_EQ(transfer(*initiator_, requests).state, TaskState::kCompleted);
    EXPECT_EQ(first_difference(remote_->data(), remote_->size(), 8), remote_->size());
    const uint64_t paths = totals(*initiator_).paths;
    const uint64_t cards = settings == kOneCard ? 1 : 2;
    end();
    EXPECT_TRUE(operations.none_vanished(2 * cards));
    // One for each request, and what tried a path out.
    EXPECT_GT(operations.sum().completed, kCount);
    EXPECT_LE(operations.sum().completed, kCount + paths);
    EXPECT_EQ(operations.sum().failed + operations.sum().ended, 0u);
  }
}

TEST_F(Fabric, ABufferTooLargeForOneRegistrationIsRegisteredInPieces) {
  Settings settings = kTwoCards;
  settings["fabric_max_registration"] = "1048576";
  constexpr uint64_t kSize = (6 << 20) + 12'345;
  if (!begin(settings, kSize)) GTEST_SKIP() << why_;
  fill(local_->data(), kSize, 3);
  // Across every border, and beginning at odd places.
  ASSERT_EQ(transfer(*initiator_,
                     {request(Opcode::kWrite, 0, 777), request(Opcode::kWrite, 777, kSize - 777)})
                .state,
            TaskState::kCompleted);
  EXPECT_EQ(first_difference(remote_->data(), kSize, 3), kSize);
  std::fill_n(local_->data(), kSize, std::byte{0});
  ASSERT_EQ(transfer(*initiator_, {request(Opcode::kRead, 0, kSize)}).state, TaskState::kCompleted);
  EXPECT_EQ(first_difference(local_->data(), kSize, 3), kSize);
  std::vector<std::byte> large(9 << 20);
  EXPECT_TRUE(fails_with(initiator_->register_memory(large.data(), large.size()), Code::kResource,
                         "more than 8 registrations"));
}

TEST_F(Fabric, AProviderThatNamesMemoryByAddressAndHasNoDescriptorsToSleepOn) {
  if (!begin({}, 4 << 20, "fabric:shm")) GTEST_SKIP() << why_;
  for (uint64_t round = 0; round < 5; ++round) {
    fill(local_->data(), local_->size(), round);
    ASSERT_EQ(transfer(*initiator_, {request(Opcode::kWrite, 0, 100),
                                     request(Opcode::kWrite, 100, (4 << 20) - 100)})
                  .state,
              TaskState::kCompleted);
    ASSERT_EQ(first_difference(remote_->data(), remote_->size(), round), remote_->size());
    std::fill_n(local_->data(), local_->size(), std::byte{0});
    ASSERT_EQ(transfer(*initiator_, {request(Opcode::kRead, 0, 4 << 20)}).state,
              TaskState::kCompleted);
    ASSERT_EQ(first_difference(local_->data(), local_->size(), round), local_->size());
  }
}

TEST_F(Fabric, WarmUpConnectsEveryPairOfCards) {
  if (!begin(kTwoCards, 1 << 20)) GTEST_SKIP() << why_;
  const std::string name = target_->local_endpoint();
  EXPECT_EQ(totals(*initiator_).ready, 0u);
  for (int round = 0; round < 3; ++round) {
    const Status warm = initiator_->warmup_segment(name);
    ASSERT_TRUE(warm.ok()) << warm.to_string();
    EXPECT_EQ(totals(*initiator_).paths, 4u);
    EXPECT_EQ(totals(*initiator_).ready, 4u);
  }
  EXPECT_TRUE(fails_with(initiator_->warmup_segment("127.0.0.1:1"), Code::kNotFound, "open it"));
  EXPECT_EQ(transfer(*initiator_, {request(Opcode::kWrite, 0, 1 << 20)}).state,
            TaskState::kCompleted);
}

TEST_F(Fabric, WarmUpLeavesWhatIsUnderWayAlone) {
  constexpr uint64_t kSize = 64 << 20;
  if (!begin(kTwoCards, kSize)) GTEST_SKIP() << why_;
  const std::string name = target_->local_endpoint();
  for (int round = 0; round < 5; ++round) {
    fill(local_->data(), kSize, static_cast<uint64_t>(round));
    const BatchId batch = submit_new(*initiator_, {request(Opcode::kWrite, 0, kSize)});
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] { EXPECT_TRUE(initiator_->warmup_segment(name).ok()); });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_TRUE(initiator_->wait(batch, kPatience).ok());
    EXPECT_EQ(initiator_->batch_status(batch)->state, TaskState::kCompleted);
    EXPECT_TRUE(initiator_->free_batch(batch).ok());
    ASSERT_EQ(std::memcmp(local_->data(), remote_->data(), kSize), 0);
  }
  EXPECT_EQ(totals(*initiator_).failed, 0u);
  EXPECT_EQ(totals(*initiator_).ready, 4u);
}

TEST_F(Fabric, MemoryThatIsGoneIsRefusedAndTheRestStillMoves) {
  if (!begin(kOneCard, 4 << 20)) GTEST_SKIP() << why_;
  for (int round = 0; round < 5; ++round) {
    auto other = std::make_unique<Registered>(*target_, 1 << 20);
    const auto address = reinterpret_cast<uint64_t>(other->data());
    const TransferRequest towards{Opcode::kWrite, local_->data(), segment_, address, 1 << 20};
    ASSERT_EQ(transfer(*initiator_, {towards}).state, TaskState::kCompleted);
    other.reset();
    // The initiator still believes in it.
    const BatchId batch = submit_new(*initiator_, {towards});
    ASSERT_TRUE(initiator_->wait(batch, kPatience).ok());
    EXPECT_EQ(initiator_->batch_status(batch)->state, TaskState::kFailed);
    EXPECT_TRUE(initiator_->free_batch(batch).ok());
    ASSERT_EQ(transfer(*initiator_, {request(Opcode::kWrite, 0, 4 << 20)}).state,
              TaskState::kCompleted);
  }
}

TEST_F(Fabric, AnEngineThatIsIdleSleeps) {
  if (!begin(kTwoCards, 1 << 20)) GTEST_SKIP() << why_;
  ASSERT_EQ(transfer(*initiator_, {request(Opcode::kWrite, 0, 1 << 20)}).state,
            TaskState::kCompleted);
  EXPECT_TRUE(eventually([] {
    const int64_t before = cpu_ms();
    std::this_thread::sleep_for(milliseconds(300));
    return cpu_ms() - before < 30;
  }));
}

// A target in a process of its own, over one card or two on each side.
class FabricPeer : public testing::TestWithParam<Settings> {
 protected:
  static constexpr int kThreads = 4;
  static constexpr uint64_t kPart = 2 << 20;
  static constexpr uint64_t kSize = kThreads * kPart;

  bool begin() {
    options_.size = kSize;
    options_.transport = "fabric:tcp";
    options_.environment["TE_FABRIC_ADDRESSES"] = GetParam().at("fabric_addresses");
    engine_ = make_fabric_engine(GetParam(), &why_);
    if (!engine_) return false;
    peer_ = std::make_unique<PeerProcess>(options_);
    EXPECT_TRUE(peer_->running());
    options_.port = peer_->port();
    local_ = std::make_unique<Registered>(*engine_, kSize);
    const Result<SegmentId> id = engine_->open_segment(peer_->segment());
    EXPECT_TRUE(id.ok()) << id.status().to_string();
    segment_ = id.ok() ? *id : -1;
    return true;
  }
  // Sixteen requests, both ways, on the thread's part.
  TaskState one(int thread, const SubmitOptions& options = {}) {
    const uint64_t at = static_cast<uint64_t>(thread) * kPart;
    std::vector<TransferRequest> requests;
    for (uint64_t i = 0; i < 16; ++i) {
      const uint64_t piece = at + i * (kPart / 16);
      requests.push_back({i % 2 == 0 ? Opcode::kWrite : Opcode::kRead, local_->data() + piece,
                          segment_, piece, kPart / 16});
    }
    const BatchId batch = *engine_->allocate_batch(requests.size());
    TaskState state = TaskState::kFailed;
    if (engine_->submit(batch, requests, options).ok()) {
      EXPECT_TRUE(engine_->wait(batch, kPatience).ok());
      state = engine_->batch_status(batch)->state;
    }
    EXPECT_TRUE(engine_->free_batch(batch).ok());
    return state;
  }
  testing::AssertionResult works(uint64_t seed) {
    stamp(local_->data(), kSize, seed);
    if (transfer(*engine_, {{Opcode::kWrite, local_->data(), segment_, 0, kSize}}).state !=
        TaskState::kCompleted) {
      return testing::AssertionFailure() << "a WRITE does not complete";
    }
    const std::string answer = peer_->ask(fmt::format("check {} 0 {}", seed, kSize));
    if (answer != "same") return testing::AssertionFailure() << "at the target: " << answer;
    std::memset(local_->data(), 0, kSize);
    if (transfer(*engine_, {{Opcode::kRead, local_->data(), segment_, 0, kSize}}).state !=
            TaskState::kCompleted ||
        difference(local_->data(), kSize, seed) != kSame) {
      return testing::AssertionFailure() << "a READ does not bring what was written";
    }
    return testing::AssertionSuccess();
  }

  // Afterwards every post of the engine has ended; so many cards as it had.
  uint64_t end() {
    local_.reset();
    engine_.reset();
    return GetParam() == kOneCard ? 1 : 2;
  }

  const Operations operations_;
  std::string why_;
  PeerOptions options_;
  std::unique_ptr<PeerProcess> peer_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Registered> local_;
  SegmentId segment_ = -1;
};

INSTANTIATE_TEST_SUITE_P(Cards, FabricPeer, testing::Values(kOneCard, kTwoCards),
                         [](const auto& settings) {
                           return std::string(settings.param == kOneCard ? "one" : "two");
                         });

TEST_P(FabricPeer, AKilledTargetThatReturnsIsFollowedTwentyTimes) {
  if (!begin()) GTEST_SKIP() << why_;
  for (uint64_t round = 0; round < 20; ++round) {
    ASSERT_TRUE(works(10 + round)) << "round " << round;
    std::atomic<bool> over{false};
    std::atomic<int> completed{0}, ended{0};
    std::vector<std::thread> load;
    for (int t = 0; t < kThreads; ++t) {
      load.emplace_back([&, t] {
        while (!over.load() && one(t) == TaskState::kCompleted) ++completed;
        ++ended;
      });
    }
    EXPECT_TRUE(eventually([&] { return completed.load() > 8 || ended.load() > 0; }));
    peer_->kill();
    peer_ = std::make_unique<PeerProcess>(options_);
    ASSERT_TRUE(peer_->running());
    const int before = completed.load();
    EXPECT_TRUE(eventually([&] { return completed.load() > before || ended.load() == kThreads; }));
    over = true;
    for (std::thread& thread : load) thread.join();
  }
  EXPECT_TRUE(works(99));
  EXPECT_EQ(totals(*engine_).inflight, 0u);
  EXPECT_TRUE(operations_.none_vanished(end()));
  EXPECT_GT(operations_.sum().failed + operations_.sum().ended, 0u) << "nothing was under way";
}

TEST_P(FabricPeer, AStoppedTargetTimesTasksOutAndOtherPeersGoOn) {
  if (!begin()) GTEST_SKIP() << why_;
  ASSERT_TRUE(works(1));
  PeerOptions others = options_;
  others.port = 0;
  PeerProcess other(others);
  ASSERT_TRUE(other.running());
  const Result<SegmentId> second = engine_->open_segment(other.segment());
  ASSERT_TRUE(second.ok());
  auto source = std::make_unique<Registered>(*engine_, 1 << 20);
  std::atomic<bool> over{false};
  std::atomic<int> moved{0}, failed{0};
  std::thread bystander([&] {
    while (!over.load()) {
      const TransferStatus status =
          transfer(*engine_, {{Opcode::kWrite, source->data(), *second, 0, 1 << 20}});
      ++(status.state == TaskState::kCompleted ? moved : failed);
    }
  });
  peer_->stop();
  std::vector<std::thread> threads;
  std::atomic<int> timed_out{0};
  const Stopwatch watch;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      if (one(t, within(500)) == TaskState::kTimeout) ++timed_out;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(timed_out.load(), kThreads);
  EXPECT_GE(watch.ms(), 480);
  EXPECT_LT(watch.ms(), kSanitized ? 6'000 : 3'000);
  // Terminal: the memory is the caller's again, whatever the target still sends.
  std::memset(local_->data(), 0x3C, kSize);
  peer_->signal(SIGCONT);
  for (int i = 0; i < 30; ++i) {
    ASSERT_EQ(other_than(local_->data(), kSize, std::byte{0x3C}), kSame);
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_TRUE(works(2));
  const int before = moved.load();
  EXPECT_TRUE(eventually([&] { return moved.load() > before + 5; }));
  over = true;
  bystander.join();
  EXPECT_EQ(failed.load(), 0);
  source.reset();
  EXPECT_TRUE(operations_.none_vanished(end()));
  EXPECT_GT(operations_.sum().ended, 0u) << "no endpoint was closed under way";
}

// Two cards with a wire each, in the virtual machine.
class FabricLinks : public Fabric {};

TEST_F(FabricLinks, WhatOneLinkCannotTheOtherMoves) {
  TE_NEEDS_RDMA_VM();
  constexpr uint64_t kSize = 8 << 20;
  const Operations operations;
  if (!begin({}, kSize, "fabric:verbs")) GTEST_SKIP() << why_;
  const auto moves = [&](uint64_t seed) {
    fill(local_->data(), kSize, seed);
    return transfer(*initiator_, {request(Opcode::kWrite, 0, kSize)}).state ==
               TaskState::kCompleted &&
           std::memcmp(local_->data(), remote_->data(), kSize) == 0;
  };
  const auto uses = [&](const std::string& device) {
    const uint64_t before = moved_by_device()[device];
    return moves(3) && moved_by_device()[device] > before;
  };
  ASSERT_TRUE(eventually([&] { return uses("rxe0"); }));
  ASSERT_TRUE(eventually([&] { return uses("rxe1"); }));
  const BatchId batch = submit_new(*initiator_, {request(Opcode::kWrite, 0, kSize)});
  ASSERT_EQ(::system("ip link set eth1 down"), 0);
  ASSERT_TRUE(initiator_->wait(batch, kPatience).ok());
  EXPECT_EQ(initiator_->batch_status(batch)->state, TaskState::kCompleted);
  EXPECT_TRUE(initiator_->free_batch(batch).ok());
  for (uint64_t seed = 10; seed < 15; ++seed) EXPECT_TRUE(moves(seed)) << "on one link";
  ASSERT_EQ(::system("ip link set eth1 up"), 0);
  end();
  EXPECT_TRUE(operations.none_vanished(4));
}

TEST(FabricAbsent, WithoutTheLibraryTheRestWorksAndTheErrorSaysWhatToDo) {
  const Settings missing = {{"fabric_library", "/nonexistent/libfabric.so.1"}};
  Pair pair(missing);
  for (const char* name : {"efa", "fabric:tcp"}) {
    const Status installed = pair.initiator().install_transport(name);
    if (installed.message().find("headers") != std::string::npos) {
      GTEST_SKIP() << installed.message();
    }
    EXPECT_TRUE(fails_with(installed, Code::kUnsupported, "/nonexistent/libfabric.so.1"));
    EXPECT_TRUE(fails_with(installed, Code::kUnsupported, "install it"));
  }
  EXPECT_TRUE(pair.works());
  size_t rows = 0;
  for (const TransportInfo& info : pair.initiator().transports()) {
    EXPECT_FALSE(info.name.starts_with("fabric:")) << info.name;
    if (info.name != "efa") continue;
    ++rows;
    EXPECT_FALSE(info.available);
    EXPECT_NE(info.detail.find("/nonexistent/libfabric.so.1"), std::string::npos);
  }
  EXPECT_EQ(rows, 1u);
}

TEST(FabricAbsent, WithoutACardOrAProviderTheErrorSaysWhatIsMissing) {
  std::string why;
  const std::unique_ptr<Engine> engine = make_fabric_engine(kOneCard, &why);
  if (!engine) GTEST_SKIP() << why;
  EXPECT_TRUE(fails_with(engine->install_transport("fabric:nosuch"), Code::kUnsupported, "nosuch"));
  EXPECT_TRUE(fails_with(engine->install_transport("nosuch"), Code::kNotFound, "efa"));
  for (const TransportInfo& info : engine->transports()) {
    if (info.name == "efa" && info.available) GTEST_SKIP() << "there is an EFA card";
  }
  const Status efa = engine->install_transport("efa");
  EXPECT_TRUE(fails_with(efa, Code::kUnsupported, "no EFA card"));
  // What it is that is missing; the list says so too.
  EXPECT_TRUE(fails_with(efa, Code::kUnsupported, "EFA interface"));
  bool efa_row = false, tcp_row = false;
  for (const TransportInfo& info : engine->transports()) {
    efa_row =
        efa_row || (info.name == "efa" && info.detail.find("EFA interface") != std::string::npos);
    tcp_row = tcp_row || (info.name == "fabric:tcp" && info.available && info.installed &&
                          info.detail.find("devices ") != std::string::npos);
  }
  EXPECT_TRUE(efa_row);
  EXPECT_TRUE(tcp_row);
}

}  // namespace
}  // namespace te::test
