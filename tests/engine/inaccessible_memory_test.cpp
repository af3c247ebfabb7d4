// Memory that becomes inaccessible while it is registered: unmapped, protected, or its file
// truncated. Requests that touch it fail, whichever side it is at; nobody dies, and everything else
// goes on.
#include <gtest/gtest.h>

#include <cctype>
#include <chrono>
#include <optional>

#include "base/log.h"
#include "engine/fabric.h"
#include "engine/pair.h"
#include "support/fragile_memory.h"
#include "support/moves.h"
#include "support/peer.h"

namespace te::test {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kZone = 2 << 20;  // good, damaged, good
constexpr uint64_t kSize = 3 * kZone;
constexpr uint64_t kLargest = 1 << 20;

struct Way {
  const char* title;
  const char* transport;   // empty: what an engine has
  bool allocated = false;  // the target's memory, by its engine
  std::map<std::string, std::string> config = {};
};
void PrintTo(const Way& way, std::ostream* out) { *out << way.title; }

// One request that touches the damaged zone.
struct Case {
  Opcode opcode;
  uint64_t at;  // in the memory that is damaged
  uint64_t length;

  std::string text() const {
    return fmt::format("{} of {} at {}", opcode == Opcode::kRead ? "READ" : "WRITE", length,
                       static_cast<int64_t>(at - kZone));
  }
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const Opcode opcode : {Opcode::kRead, Opcode::kWrite}) {
    for (const uint64_t length : {uint64_t{1}, uint64_t{64}, kPage, kLargest}) {
      cases.push_back({opcode, kZone, length});
      cases.push_back({opcode, kZone + 3 * kPage + 5, length});
      // Begins in the good zone.
      if (length > 1) cases.push_back({opcode, kZone - length / 2, length});
    }
  }
  return cases;
}

struct End {
  TaskState state = TaskState::kPending;
  std::string error;
};

std::vector<End> run(Engine& engine, const std::vector<TransferRequest>& requests,
                     std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
  std::vector<End> ends;
  const Result<BatchId> batch = engine.allocate_batch(requests.size());
  EXPECT_TRUE(batch.ok());
  SubmitOptions options;
  options.timeout = timeout;
  const Status submitted = engine.submit(*batch, requests, options);
  EXPECT_TRUE(submitted.ok()) << submitted.to_string();
  EXPECT_TRUE(engine.wait(*batch, std::chrono::seconds(60)).ok());
  for (size_t i = 0; i < requests.size(); ++i) {
    const Result<TransferStatus> status = engine.status(*batch, i);
    const Result<TaskError> error = engine.task_error(*batch, i);
    End& end = ends.emplace_back();
    if (status.ok()) end.state = status->state;
    if (error.ok()) end.error = error->status.to_string();
  }
  EXPECT_TRUE(engine.free_batch(*batch).ok());
  return ends;
}

// An engine, and a peer in a process of its own.
class Ends {
 protected:
  // Skips the test where there is no such transport.
  void make_initiator(const Way& way) {
    way_ = way;
    engine_ = make_engine(way.config, "");
    if (*way.transport == '\0') return;
    const Status installed = engine_->install_transport(way.transport);
    if (installed.code() == Code::kUnsupported) GTEST_SKIP() << installed.message();
    ASSERT_TRUE(installed.ok()) << installed.to_string();
  }
  void start_peer(bool fragile) {
    PeerOptions options;
    options.size = kSize;
    options.fragile = fragile;
    options.allocate = !fragile && way_.allocated;
    options.transport = way_.transport;
    for (const auto& [name, value] : way_.config) {
      std::string variable = "TRANSFER_ENGINE_";
      for (const char c : name) variable += static_cast<char>(std::toupper(c));
      options.environment[variable] = value;
    }
    peer_.emplace(options);
    ASSERT_TRUE(peer_->running());
    const Result<SegmentId> segment = engine_->open_segment(peer_->segment());
    ASSERT_TRUE(segment.ok()) << segment.status().to_string();
    segment_ = *segment;
  }
  // Bytes go both ways, in many requests.
  void works_as_before() {
    MoveOptions options;
    options.remote_size = kSize;
    options.volume = 32 << 20;
    options.threads = 2;
    EXPECT_EQ(move_and_verify(*engine_, segment_, options).error, "");
  }

  Way way_{};
  std::unique_ptr<Engine> engine_;
  std::optional<PeerProcess> peer_;
  SegmentId segment_ = -1;
};

class InaccessibleMemory : public testing::TestWithParam<Way>, protected Ends {
 protected:
  void SetUp() override { make_initiator(GetParam()); }
  std::vector<End> run(const std::vector<TransferRequest>& requests) {
    return test::run(*engine_, requests);
  }

  FragileMemory local_{kSize};
};

// Nothing but reading is done to memory that can be read.
bool harmless(Damage damage, bool reads) { return damage == Damage::kReadOnly && reads; }

testing::AssertionResult ended_as(const End& end, TaskState state, const std::string& text) {
  if (end.state == state && end.error.find(text) != std::string::npos) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure()
         << "state " << static_cast<int>(end.state) << ": " << end.error;
}

class InaccessibleTarget : public InaccessibleMemory {};

TEST_P(InaccessibleTarget, FailsWhatTouchesItAndNothingElse) {
  start_peer(true);
  if (HasFatalFailure()) return;
  Registered own(*engine_, kSize);
  uint64_t seed = 1;
  for (const Damage damage : kDamages) {
    for (const Case& each : all_cases()) {
      SCOPED_TRACE(fmt::format("{}: {}", name_of(damage), each.text()));
      ++seed;
      ASSERT_EQ(peer_->ask("restore"), "ok");
      ASSERT_EQ(peer_->ask(fmt::format("stamp {}", seed)), "ok");
      stamp(own.data(), kSize, seed + 1000);
      const uint64_t remote = peer_->address();
      ASSERT_EQ(peer_->ask(fmt::format("damage {} {} {}", name_of(damage), kZone, kZone)), "ok");
      const bool read = each.opcode == Opcode::kRead;
      const std::vector<End> ends =
          run({{Opcode::kRead, own.data(), segment_, remote, kPage},
               {each.opcode, own.data() + kZone, segment_, remote + each.at, each.length},
               {Opcode::kRead, own.data() + 2 * kZone, segment_, remote + kPage, kPage},
               {Opcode::kWrite, own.data() + 4 * kPage, segment_, remote + 4 * kPage, 64}});
      for (const size_t good : {0, 2, 3}) {
        ASSERT_TRUE(ended_as(ends[good], TaskState::kCompleted, "")) << good;
      }
      if (harmless(damage, read)) {
        ASSERT_TRUE(ended_as(ends[1], TaskState::kCompleted, ""));
      } else {
        ASSERT_TRUE(ended_as(ends[1], TaskState::kFailed, "the memory of the target"));
      }
      ASSERT_EQ(difference(own.data(), kPage, seed), kSame);
      if (damage == Damage::kTruncated) continue;  // what was there is gone
      ASSERT_EQ(peer_->ask("restore"), "ok");
      const uint64_t begin = read ? 2 * kZone : each.at + each.length;
      ASSERT_EQ(peer_->ask(fmt::format("same {} {} {}", seed, kPage * 5, each.at - kPage * 5)),
                "same");
      ASSERT_EQ(peer_->ask(fmt::format("same {} {} {}", seed, begin, kSize - begin)), "same");
    }
  }
  ASSERT_EQ(peer_->ask("restore"), "ok");
  works_as_before();
}

TEST_P(InaccessibleMemory, HereFailsWhatTouchesItAndNothingElse) {
  start_peer(false);
  if (HasFatalFailure()) return;
  ASSERT_TRUE(engine_->register_memory(local_.data(), kSize).ok());
  uint64_t seed = 1;
  for (const Damage damage : kDamages) {
    for (const Case& each : all_cases()) {
      SCOPED_TRACE(fmt::format("{}: {}", name_of(damage), each.text()));
      ++seed;
      ASSERT_EQ(peer_->ask(fmt::format("stamp {}", seed)), "ok");
      ASSERT_TRUE(local_.restore());
      stamp(local_.data(), kSize, seed + 1000);
      const uint64_t remote = peer_->address();
      ASSERT_TRUE(local_.damage(damage, kZone, kZone));
      const bool read = each.opcode == Opcode::kRead;
      const std::vector<End> ends =
          run({{Opcode::kRead, local_.data(), segment_, remote, kPage},
               {each.opcode, local_.data() + each.at, segment_, remote + kZone, each.length},
               {Opcode::kRead, local_.data() + kPage, segment_, remote, kPage},
               {Opcode::kWrite, local_.data() + 4 * kPage, segment_, remote + kSize - 64, 64}});
      for (const size_t good : {0, 2, 3}) {
        ASSERT_TRUE(ended_as(ends[good], TaskState::kCompleted, "")) << good;
      }
      if (harmless(damage, !read)) {
        ASSERT_TRUE(ended_as(ends[1], TaskState::kCompleted, ""));
      } else {
        ASSERT_TRUE(ended_as(ends[1], TaskState::kFailed, "the local memory"));
      }
      ASSERT_EQ(difference(local_.data(), kPage, seed), kSame);
      ASSERT_EQ(difference(local_.data() + kPage, kPage, seed), kSame);
      ASSERT_EQ(peer_->ask(fmt::format("same {} {} {}", seed, 0, kZone)), "same");
      const uint64_t behind = kZone + each.length;
      ASSERT_EQ(peer_->ask(fmt::format("same {} {} {}", seed, behind, kSize - 64 - behind)),
                "same");
    }
  }
  ASSERT_TRUE(local_.restore());
  works_as_before();
  EXPECT_TRUE(engine_->unregister_memory(local_.data()).ok());
}

const std::map<std::string, std::string> kByTheKernel = {{"guarded_copies", "kernel"}};
std::string title_of(const testing::TestParamInfo<Way>& way) { return way.param.title; }

INSTANTIATE_TEST_SUITE_P(Over, InaccessibleTarget,
                         testing::Values(Way{"default", ""}, Way{"tcp", "tcp"}, Way{"shm", "shm"},
                                         Way{"fabric_tcp", "fabric:tcp", false, kOneNic},
                                         Way{"tcp_by_the_kernel", "tcp", false, kByTheKernel}),
                         title_of);
INSTANTIATE_TEST_SUITE_P(Over, InaccessibleMemory,
                         testing::Values(Way{"default", ""}, Way{"tcp", "tcp"}, Way{"shm", "shm"},
                                         Way{"shm_allocated", "shm", true},
                                         Way{"fabric_tcp", "fabric:tcp", false, kOneNic},
                                         Way{"tcp_by_the_kernel", "tcp", false, kByTheKernel},
                                         Way{"shm_allocated_by_the_kernel", "shm", true,
                                             kByTheKernel}),
                         title_of);

// Source and target are one engine's.
TEST(InaccessibleMemoryInside, FailsACopyOnEitherSide) {
  for (const char* way : {"handler", "kernel"}) {
    std::unique_ptr<Engine> engine = make_engine({{"guarded_copies", way}}, "");
    Registered good(*engine, kSize);
    FragileMemory fragile(kSize);
    ASSERT_TRUE(engine->register_memory(fragile.data(), kSize).ok());
    for (const Damage damage : kDamages) {
      for (const Case& each : all_cases()) {
        for (const bool local : {false, true}) {
          SCOPED_TRACE(fmt::format("{}: {} {} {}", way, name_of(damage), each.text(), local));
          ASSERT_TRUE(fragile.restore());
          ASSERT_TRUE(fragile.damage(damage, kZone, kZone));
          std::byte* bad = fragile.data() + each.at;
          std::byte* other = good.data() + each.at;
          const std::vector<End> ends =
              run(*engine, {{each.opcode, local ? bad : other, kLocalSegment,
                             reinterpret_cast<uint64_t>(local ? other : bad), each.length},
                            {each.opcode, good.data(), kLocalSegment,
                             reinterpret_cast<uint64_t>(fragile.data()), 64}});
          const bool reads_it = (each.opcode == Opcode::kWrite) == local;
          if (harmless(damage, reads_it)) {
            ASSERT_TRUE(ended_as(ends[0], TaskState::kCompleted, ""));
          } else {
            ASSERT_TRUE(ended_as(ends[0], TaskState::kFailed,
                                 local ? "the local memory" : "the memory of the target"));
          }
          ASSERT_TRUE(ended_as(ends[1], TaskState::kCompleted, ""));
        }
      }
    }
    ASSERT_TRUE(fragile.restore());
    EXPECT_TRUE(engine->unregister_memory(fragile.data()).ok());
  }
}

}  // namespace
}  // namespace te::test
