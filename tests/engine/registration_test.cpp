// Registering and unregistering beside transfers, and beside transports that come and go.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "engine/pair.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

// Nobody's WRITE may reach a buffer after it was unregistered, whatever its peer knows.
TEST(Registration, NoKeyOutlivesItsBufferWhileATransportComesAndGoes) {
  constexpr size_t kPeers = 3, kPiece = 4096;
  std::unique_ptr<Engine> target = make_engine();
  std::vector<std::byte> memory(kPeers * kPiece);
  std::atomic<bool> stop{false};
  std::atomic<int> rounds{0}, reached{0};
  std::thread installer([&] {
    while (!stop) {
      EXPECT_TRUE(target->install_transport("shm").ok());
      EXPECT_TRUE(target->uninstall_transport("shm").ok());
    }
  });
  std::vector<std::thread> peers;
  for (size_t p = 0; p < kPeers; ++p) {
    peers.emplace_back([&, p] {
      std::unique_ptr<Engine> engine = make_engine({}, "");
      Registered local(*engine, kPiece, false);
      std::memset(local.data(), 0x55, kPiece);
      std::byte* piece = memory.data() + p * kPiece;
      const SegmentId segment = *engine->open_segment(target->local_endpoint());
      SubmitOptions options = within(50);
      options.addressing = Addressing::kAddress;
      const TransferRequest write{Opcode::kWrite, local.data(), segment,
                                  reinterpret_cast<uint64_t>(piece), kPiece};
      while (!stop) {
        ASSERT_TRUE(target->register_memory(piece, kPiece).ok());
        (void)engine->sync_segment_cache();
        ASSERT_TRUE(target->unregister_memory(piece).ok());
        std::memset(piece, 0, kPiece);
        const BatchId batch = *engine->allocate_batch(1);
        if (engine->submit(batch, {&write, 1}, options).ok()) {
          EXPECT_TRUE(engine->wait(batch).ok());
          if (engine->status(batch, 0)->state == TaskState::kCompleted) ++reached;
        }
        EXPECT_TRUE(engine->free_batch(batch).ok());
        if (other_than(piece, kPiece, std::byte{0}) != kSame) ++reached;
        ++rounds;
      }
    });
  }
  EXPECT_TRUE(eventually([&] { return rounds > 200; }, std::chrono::seconds(25))) << rounds;
  stop = true;
  installer.join();
  for (std::thread& peer : peers) peer.join();
  EXPECT_EQ(reached, 0);
}

// Why this machine has no such transport; empty: it has.
std::string missing(const char* transport) {
  if (*transport == '\0') return {};
  const Status status = make_engine({}, "")->install_transport(transport);
  return status.code() == Code::kUnsupported ? status.message() : std::string();
}

class RegistrationOver : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Transports, RegistrationOver, testing::Values("", "tcp", "fabric:tcp"),
                         [](const auto& transport) {
                           std::string name = transport.param;
                           for (char& c : name) c = c == ':' ? '_' : c;
                           return name.empty() ? "the_default" : name;
                         });

// A call with very many buffers delays nobody's submissions for long.
TEST_P(RegistrationOver, SubmissionsDoNotWaitForALargeBatch) {
  constexpr size_t kCount = kSanitized ? 10'000 : 100'000, kPiece = 64;
  // Or a quarter of what the calls take, on a machine that is busy with other things.
  constexpr int64_t kLimitMs = kSanitized ? 5'000 : 250;
  if (const std::string why = missing(GetParam()); !why.empty()) GTEST_SKIP() << why;
  Pair pair({}, GetParam());
  std::vector<std::byte> memory(kCount * kPiece);
  std::vector<BufferEntry> entries;
  std::vector<void*> addresses;
  for (size_t i = 0; i < kCount; ++i) {
    entries.push_back({memory.data() + i * kPiece, kPiece});
    addresses.push_back(entries.back().addr);
  }
  std::atomic<bool> over{false};
  const Stopwatch both_calls;
  std::thread registering([&] {
    EXPECT_TRUE(pair.initiator().register_memory_batch(entries).ok());
    EXPECT_TRUE(pair.initiator().unregister_memory_batch(addresses).ok());
    over = true;
  });
  int64_t longest = 0;
  int rounds = 0;
  const TransferRequest write = pair.write(0, 4096);
  for (; !over; ++rounds) {
    const BatchId batch = *pair.initiator().allocate_batch(1);
    const Stopwatch watch;
    EXPECT_TRUE(pair.initiator().submit(batch, {&write, 1}).ok());
    longest = std::max(longest, watch.ms());
    EXPECT_TRUE(pair.initiator().wait(batch).ok());
    EXPECT_TRUE(pair.initiator().free_batch(batch).ok());
  }
  const int64_t whole = both_calls.ms();
  registering.join();
  EXPECT_GT(rounds, 1);
  EXPECT_LT(longest, std::max(kLimitMs, whole / 4));
}

}  // namespace
}  // namespace te::test
