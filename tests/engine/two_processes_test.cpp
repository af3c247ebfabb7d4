// Real processes: bytes both ways, compared at both ends.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstdlib>

#include "base/log.h"
#include "engine/pair.h"
#include "support/moves.h"
#include "support/peer.h"

namespace te::test {
namespace {

// Both ways together. TEST_TRANSFER_GB asks for another one.
uint64_t volume() {
  if (const char* wanted = std::getenv("TEST_TRANSFER_GB")) {
    return std::strtoull(wanted, nullptr, 10) * 1'000'000'000;
  }
  return kSanitized ? 200'000'000 : 20'000'000'000;
}

class TwoProcesses : public testing::TestWithParam<const char*> {};

TEST_P(TwoProcesses, MoveEverySizeAtOddAddressesBothWays) {
  constexpr uint64_t kLargest = 64 << 20;
  constexpr uint64_t kSize = kLargest + 128;
  PeerProcess peer({.size = kSize});
  ASSERT_TRUE(peer.running());
  std::unique_ptr<Engine> engine = make_engine({}, GetParam());
  Registered local(*engine, kSize);
  const Result<SegmentId> segment = engine->open_segment(peer.segment());
  ASSERT_TRUE(segment.ok()) << segment.status().to_string();
  uint64_t seed = 1;
  for (const uint64_t length : std::initializer_list<uint64_t>{
           1, 3, 8, 4095, 4097, 65536, 1'048'575, 1'048'577, 17'000'001, kLargest}) {
    const uint64_t from = seed * 3 % 61 + 1, to = seed * 5 % 59 + 1;
    ASSERT_EQ(peer.ask("fill 238"), "ok");
    stamp(local.data() + from, length, seed);
    // By address once, by offset in the segment the other time.
    ASSERT_EQ(transfer(*engine, {{Opcode::kWrite, local.data() + from, *segment,
                                  peer.address() + to, length}})
                  .state,
              TaskState::kCompleted);
    ASSERT_EQ(peer.ask(fmt::format("check {} {} {}", seed, to, length)), "same") << length;
    std::memset(local.data(), 0x11, kSize);
    ASSERT_EQ(transfer(*engine, {{Opcode::kRead, local.data(), *segment, 0, kSize}}).state,
              TaskState::kCompleted);
    ASSERT_EQ(other_than(local.data(), to, std::byte{238}), kSame) << length;
    ASSERT_EQ(difference(local.data() + to, length, seed), kSame) << length;
    ASSERT_EQ(other_than(local.data() + to + length, kSize - to - length, std::byte{238}), kSame)
        << length;
    std::memset(local.data(), 0x11, kSize);
    ASSERT_EQ(transfer(*engine, {{Opcode::kRead, local.data() + from, *segment, to, length}}).state,
              TaskState::kCompleted);
    ASSERT_EQ(difference(local.data() + from, length, seed), kSame) << length;
    ASSERT_EQ(other_than(local.data(), from, std::byte{0x11}), kSame) << length;
    ++seed;
  }
}

TEST_P(TwoProcesses, MoveGigabytesInOverlappingBatchesOfEightThreads) {
  constexpr uint64_t kSize = 128 << 20;
  PeerProcess peer({.size = kSize});
  ASSERT_TRUE(peer.running());
  std::unique_ptr<Engine> engine = make_engine({}, GetParam());
  const Result<SegmentId> segment = engine->open_segment(peer.segment());
  ASSERT_TRUE(segment.ok()) << segment.status().to_string();
  MoveOptions options;
  options.remote_size = kSize;
  options.volume = volume();
  options.check_target = [&peer](uint64_t seed, uint64_t at, uint64_t length) {
    const std::string answer = peer.ask(fmt::format("check {} {} {}", seed, at, length));
    return answer == "same" ? std::string() : answer;
  };
  const MoveResult result = move_and_verify(*engine, *segment, options);
  EXPECT_EQ(result.error, "");
  EXPECT_GE(result.bytes, options.volume);
}

INSTANTIATE_TEST_SUITE_P(Over, TwoProcesses, testing::Values("tcp", "shm"),
                         [](const auto& transport) { return std::string(transport.param); });

TEST(TwoEnds, NotifyAcrossTheProcessBoundary) {
  PeerProcess peer({.size = 1 << 20});
  ASSERT_TRUE(peer.running());
  std::unique_ptr<Engine> engine = make_engine();
  Registered local(*engine, 1 << 20);
  const Result<SegmentId> segment = engine->open_segment(peer.segment());
  ASSERT_TRUE(segment.ok()) << segment.status().to_string();
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(engine->notify(*segment, {"name", "message"}).ok());
  }
  SubmitOptions options;
  options.notification = Notification{"with", "bytes"};
  ASSERT_EQ(
      transfer(*engine, {{Opcode::kWrite, local.data(), *segment, 0, 1 << 20}}, options).state,
      TaskState::kCompleted);
  EXPECT_EQ(peer.ask("notifications"), "11");
  EXPECT_EQ(peer.ask("notifications"), "0");
}

TEST(TwoEnds, TheTestsTargetEndsWithItsInput) {
  PeerProcess peer({});
  ASSERT_TRUE(peer.running());
  peer.close_input();
  const int status = peer.wait_for_end();
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace te::test
