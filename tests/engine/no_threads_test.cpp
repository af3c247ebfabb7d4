// A process that may start no further thread, as under a pids limit: what needs one is an error,
// and what is there already goes on.
#include <gtest/gtest.h>

#include <thread>

#include "engine/pair.h"
#include "support/child.h"
#include "support/forbid.h"
#include "support/peer.h"
#include "transfer_engine_c.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

class NoThreads : public testing::Test {
 protected:
  // `body` forbids threads itself, when it has what it wants.
  static void in_child(const std::function<int()>& body) {
    const ChildEnd end = run_in_child(body);
    if (end.not_possible()) GTEST_SKIP() << "no seccomp filters here";
    EXPECT_TRUE(end.ok()) << end.describe();
  }
};

TEST_F(NoThreads, AnEngineCannotBeMade) {
  in_child([] {
    if (!forbid_threads()) return ChildEnd::kNotPossible;
    EXPECT_EQ(createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "127.0.0.1", 0, 0), nullptr);
    EXPECT_NE(std::string(transferEngineLastError()).find("thread"), std::string::npos)
        << transferEngineLastError();
    return 0;
  });
}

// Wherever in the middle the limit is met, what was begun is undone.
TEST_F(NoThreads, FromAnyMomentOnAnEngineIsMadeOrNot) {
  for (int round = 0; round < 8; ++round) {
    in_child([round] {
      std::thread limit([round] {
        std::this_thread::sleep_for(std::chrono::microseconds(400 * round));
        (void)forbid_threads();
      });
      for (int i = 0; i < 3; ++i) {
        transfer_engine_t engine =
            createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "127.0.0.1", 0, 0);
        if (engine == nullptr) continue;
        for (const char* transport : {"tcp", "shm", "fabric:tcp"}) {
          (void)installTransport(engine, transport, nullptr);
        }
        destroyTransferEngine(engine);
      }
      limit.join();
      return 0;
    });
  }
}

TEST_F(NoThreads, TransfersNotificationsAndTheirEndsGoOn) {
  in_child([] {
    Pair pair;
    EXPECT_TRUE(pair.works());
    if (!forbid_threads()) return ChildEnd::kNotPossible;
    EXPECT_TRUE(pair.works());
    SubmitOptions options;
    options.notification = Notification{"name", "message"};
    EXPECT_EQ(transfer(pair.initiator(), {pair.write(0, 4096)}, options).state,
              TaskState::kCompleted);
    EXPECT_TRUE(eventually([&] { return !pair.target().take_notifications().empty(); }));
    return 0;
  });
}

TEST_F(NoThreads, AnotherTransportCannotBeInstalledAndTheOthersStay) {
  in_child([] {
    Pair pair;
    EXPECT_TRUE(pair.works());
    if (!forbid_threads()) return ChildEnd::kNotPossible;
    EXPECT_TRUE(fails_with(pair.initiator().install_transport("shm"), Code::kResource, "thread"));
    EXPECT_TRUE(pair.works());
    return 0;
  });
}

TEST_F(NoThreads, TheEndOfATargetIsAFailedTask) {
  in_child([] {
    std::unique_ptr<Engine> engine = make_engine({{"retry_window_ms", "300"}});
    Registered local(*engine, 1 << 20);
    SegmentId segment = -1;
    TransferRequest request;
    {
      PeerProcess peer({.seed = 3});
      if (!peer.running()) return 1;
      segment = *engine->open_segment(peer.segment());
      request = {Opcode::kRead, local.data(), segment, peer.address(), 1 << 20};
      EXPECT_EQ(transfer(*engine, {request}).state, TaskState::kCompleted);
      if (!forbid_threads()) return ChildEnd::kNotPossible;
    }
    SubmitOptions options;
    options.timeout = milliseconds(3'000);
    const TaskState state = transfer(*engine, {request}, options).state;
    EXPECT_TRUE(state == TaskState::kFailed || state == TaskState::kTimeout);
    return 0;
  });
}

TEST_F(NoThreads, GracefulShutdownSaysThatItIsNotThere) {
  in_child([] {
    transfer_engine_t engine = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "127.0.0.1", 0, 0);
    if (!forbid_threads()) return ChildEnd::kNotPossible;
    enableGracefulShutdown(engine);
    EXPECT_NE(std::string(transferEngineLastError()).find("thread"), std::string::npos)
        << transferEngineLastError();
    destroyTransferEngine(engine);
    return 0;
  });
}

}  // namespace
}  // namespace te::test
