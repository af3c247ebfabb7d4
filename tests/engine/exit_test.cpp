// Calls while the process ends: threads that go on, handlers of exit, destructors of statics.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "support/child.h"
#include "transfer_engine_c.h"

namespace te::test {
namespace {

constexpr size_t kSize = 4096;

transfer_engine_t engine_of_exit = nullptr;
segment_id_t segment_of_exit = 0;
char* memory_of_exit = nullptr;

bool make_all() {
  engine_of_exit = createTransferEngine("P2PHANDSHAKE", "exits", "127.0.0.1", 0, 0);
  if (engine_of_exit == nullptr) return false;
  memory_of_exit = new char[kSize]{};
  char name[256];
  if (registerLocalMemory(engine_of_exit, memory_of_exit, kSize, "cpu:0", 1) != 0) return false;
  if (getLocalIpAndPort(engine_of_exit, name, sizeof name) != 0) return false;
  segment_of_exit = openSegment(engine_of_exit, name);
  return segment_of_exit >= 0;
}

// Says what did not work; after the end of main() nobody else would.
bool worked(bool right, const char* what) {
  if (!right) std::fprintf(stderr, "%s: %s\n", what, transferEngineLastError());
  return right;
}

// Everything but the engine's end.
bool use_all() {
  const batch_id_t batch = allocateBatchID(engine_of_exit, 1);
  transfer_request_t request{};
  request.opcode = OPCODE_WRITE;
  request.source = memory_of_exit;
  request.target_id = segment_of_exit;
  request.length = kSize;
  transfer_status_t status{};
  static thread_local char text[65536];
  return worked(submitTransfer(engine_of_exit, batch, &request, 1) == 0, "submit") &&
         worked(getTransferStatus(engine_of_exit, batch, 0, &status) == 0, "status") &&
         worked(waitBatch(engine_of_exit, batch, 5'000) == 0, "wait") &&
         worked(getTransferStatus(engine_of_exit, batch, 7, &status) != 0, "status of none") &&
         worked(transferEngineLastError()[0] != '\0', "an error's text") &&
         worked(getEffectiveConfig(engine_of_exit, text, sizeof text) >= 0, "config") &&
         worked(freeBatchID(engine_of_exit, batch) == 0, "free");
}

// Leaves with 3 where something does not work, since the exit status is given already.
void use_and_end() {
  if (!use_all()) ::_exit(3);
  destroyTransferEngine(engine_of_exit);
  // Another one, while there is hardly anything left of the process.
  if (!make_all() || !use_all()) ::_exit(4);
  destroyTransferEngine(engine_of_exit);
}

// Both are registered before the library makes anything, and run after all that it destroys.
TEST(Exit, AHandlerUsesAndEndsTheEngine) {
  const ChildEnd end = run_in_child([] {
    if (std::atexit(use_and_end) != 0 || !make_all() || !use_all()) return 2;
    std::exit(0);
    return 1;
  });
  EXPECT_EQ(end.status, 0) << end.describe();
}

TEST(Exit, ADestructorOfAStaticUsesAndEndsTheEngine) {
  const ChildEnd end = run_in_child([] {
    struct Owner {
      ~Owner() { use_and_end(); }
    };
    static const Owner owner;
    if (!make_all() || !use_all()) return 2;
    std::exit(0);
    return 1;
  });
  EXPECT_EQ(end.status, 0) << end.describe();
}

TEST(Exit, ThreadsGoOnUsingTheEngineUntilTheProcessIsGone) {
  const ChildEnd end = run_in_child([] {
    static std::atomic<int> rounds{0};
    // The last handler of all gives them time when the statics are gone.
    const int handler = std::atexit([] {
      const int before = rounds.load();
      for (int ms = 0; rounds.load() < before + 50; ++ms) {
        if (ms == 20'000) ::_exit(5);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
    if (handler != 0 || !make_all()) return 2;
    for (int i = 0; i < 3; ++i) {
      std::thread([] {
        for (;;) {
          if (!use_all()) ::_exit(3);
          ++rounds;
        }
      }).detach();
    }
    while (rounds.load() < 10) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::exit(0);
    return 1;
  });
  EXPECT_EQ(end.status, 0) << end.describe();
}

}  // namespace
}  // namespace te::test
