// Calls while the process ends: threads that go on, handlers of exit, destructors of statics.
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "base/log.h"
#include "support/child.h"
#include "support/peer.h"
#include "transfer_engine_c.h"

namespace te::test {
namespace {

constexpr size_t kThreads = 3;
constexpr size_t kSize = 4096;  // of one thread's part of the memory

transfer_engine_t engine_of_exit = nullptr;
segment_id_t segment_of_exit = 0;
char* memory_of_exit = nullptr;
std::atomic<int> lines_logged{0};

// Called at the very end, when all statics of the program and of the library are destroyed: the
// handler is registered before any of them is made.
constinit std::atomic<void (*)()> last_of_all{nullptr};
__attribute__((constructor(101))) void register_last_of_all() {
  (void)std::atexit([] {
    if (void (*const call)() = last_of_all.load()) call();
  });
}

bool make_all() {
  setTransferEngineLogCallback([](int, const char*, void*) { ++lines_logged; }, nullptr);
  engine_of_exit = createTransferEngine("P2PHANDSHAKE", "exits", "127.0.0.1", 0, 0);
  if (engine_of_exit == nullptr) return false;
  memory_of_exit = new char[kThreads * kSize]{};
  char name[256];
  if (registerLocalMemory(engine_of_exit, memory_of_exit, kThreads * kSize, "cpu:0", 1) != 0) {
    return false;
  }
  if (getLocalIpAndPort(engine_of_exit, name, sizeof name) != 0) return false;
  segment_of_exit = openSegment(engine_of_exit, name);
  return segment_of_exit >= 0;
}

// Says what did not work; after the end of main() nobody else would.
bool worked(bool right, const char* what) {
  if (!right) std::fprintf(stderr, "%s: %s\n", what, transferEngineLastError());
  return right;
}

// Everything but the engine's end. Threads that call it at the same time have a part each.
bool use_all(size_t part = 0) {
  const batch_id_t batch = allocateBatchID(engine_of_exit, 1);
  transfer_request_t request{};
  request.opcode = OPCODE_WRITE;
  request.source = memory_of_exit + part * kSize;
  request.target_id = segment_of_exit;
  request.target_offset = part * kSize;
  request.length = kSize;
  transfer_status_t status{};
  static thread_local char text[65536];
  const int lines = lines_logged;
  log_error("a line");
  return worked(submitTransfer(engine_of_exit, batch, &request, 1) == 0, "submit") &&
         worked(getTransferStatus(engine_of_exit, batch, 0, &status) == 0, "status") &&
         worked(waitBatch(engine_of_exit, batch, 5'000) == 0, "wait") &&
         worked(getTransferStatus(engine_of_exit, batch, 7, &status) != 0, "status of none") &&
         worked(transferEngineLastError()[0] != '\0', "an error's text") &&
         worked(lines_logged > lines, "the log") &&
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

// What is used after it was destroyed fails at once: freed memory is overwritten from here on.
// glibc leaves out what goes to the calling thread's cache of small blocks, so that is filled
// first.
[[noreturn]] void exit_overwriting_freed_memory() {
  constexpr size_t kLargest = 1'032, kStep = 16, kOfEachSize = 7;
  std::vector<void*> blocks;
  for (size_t size = 1; size <= kLargest; size += kStep) {
    for (size_t i = 0; i < kOfEachSize; ++i) blocks.push_back(std::malloc(size));
  }
  ::mallopt(M_PERTURB, 0x5A);
  for (void* block : blocks) std::free(block);
  std::exit(0);
}

TEST(Exit, AHandlerUsesAndEndsTheEngine) {
  const ChildEnd end = run_in_child([] {
    last_of_all = use_and_end;
    if (!make_all() || !use_all()) return 2;
    exit_overwriting_freed_memory();
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
    exit_overwriting_freed_memory();
  });
  EXPECT_EQ(end.status, 0) << end.describe();
}

// A WRITE to a target that stands still, whose batch stays in flight.
batch_id_t submit_to_stopped(const PeerProcess& target) {
  const segment_id_t segment = openSegment(engine_of_exit, target.segment().c_str());
  target.stop();
  const batch_id_t batch = allocateBatchID(engine_of_exit, 1);
  transfer_request_t request{OPCODE_WRITE, memory_of_exit, segment, 0, kSize};
  submit_options_t options{};
  options.struct_size = sizeof options;
  options.addressing = ADDRESSING_OFFSET;
  options.timeout_ms = 600'000;
  return submitTransferWithOptions(engine_of_exit, batch, &request, 1, &options) == 0
             ? batch
             : INVALID_BATCH;
}

TEST(Exit, ThreadsGoOnUsingTheEngineUntilTheProcessIsGone) {
  PeerProcess stopped({.transport = "tcp"});
  ASSERT_TRUE(stopped.running());
  const ChildEnd end = run_in_child([&stopped] {
    static std::atomic<int> rounds{0};
    static batch_id_t in_flight = INVALID_BATCH;
    last_of_all = [] {
      const int before = rounds.load();
      for (int ms = 0; rounds.load() < before + 50; ++ms) {
        if (ms == 20'000) ::_exit(5);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    };
    if (!make_all()) return 2;
    in_flight = submit_to_stopped(stopped);
    if (in_flight == INVALID_BATCH) return 2;
    for (size_t part = 0; part < kThreads; ++part) {
      std::thread([part] {
        for (;;) {
          if (!use_all(part)) ::_exit(3);
          const int code = waitBatch(engine_of_exit, in_flight, 0);
          if (!worked(code == TE_ERR_TIMEOUT, "a batch in flight")) ::_exit(4);
          ++rounds;
        }
      }).detach();
    }
    while (rounds.load() < 10) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    exit_overwriting_freed_memory();
  });
  EXPECT_EQ(end.status, 0) << end.describe();
}

}  // namespace
}  // namespace te::test
