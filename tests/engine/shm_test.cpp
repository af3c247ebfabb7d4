// Between processes of one host: which way is taken, what is shared, and what happens where the
// kernel does not let processes touch each other's memory.
#include <gtest/gtest.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <sstream>
#include <thread>

#include "engine/pair.h"
#include "support/child.h"
#include "support/peer.h"

namespace te::test {
namespace {

constexpr uint64_t kSize = 16 << 20;
constexpr uint64_t kVolume = 64 << 20;

uint64_t bytes_of(Engine& engine, const std::string& transport) {
  uint64_t bytes = 0;
  for (const PathInfo& path : engine.paths()) {
    if (path.transport == transport) bytes += path.completed_bytes;
  }
  return bytes;
}

bool installed(Engine& engine, const std::string& transport) {
  for (const TransportInfo& info : engine.transports()) {
    if (info.name == transport) return info.installed;
  }
  return false;
}

TEST(SameHost, IsServedByDefaultAndPreferred) {
  PeerProcess peer({.size = kSize, .seed = 4});
  ASSERT_TRUE(peer.running());
  std::unique_ptr<Engine> engine = make_engine({}, "");
  EXPECT_TRUE(installed(*engine, "tcp") && installed(*engine, "shm"));
  Registered local(*engine, kSize);
  const Result<SegmentId> segment = engine->open_segment(peer.segment());
  ASSERT_TRUE(segment.ok());
  ASSERT_EQ(transfer(*engine, {{Opcode::kRead, local.data(), *segment, 0, kSize}}).state,
            TaskState::kCompleted);
  EXPECT_EQ(difference(local.data(), kSize, 4), kSame);
  EXPECT_EQ(bytes_of(*engine, "shm"), kSize);
  EXPECT_EQ(bytes_of(*engine, "tcp"), 0u);
}

TEST(SameHost, TcpAloneMeansTcpAlone) {
  Pair pair({}, "");
  ASSERT_TRUE(pair.works());
  EXPECT_EQ(bytes_of(pair.initiator(), "tcp"), 0u);
  const uint64_t before = bytes_of(pair.initiator(), "shm");
  EXPECT_GT(before, 0u);
  ASSERT_TRUE(pair.initiator().install_transport("tcp").ok());
  EXPECT_FALSE(installed(pair.initiator(), "shm"));
  ASSERT_TRUE(pair.works());
  EXPECT_GT(bytes_of(pair.initiator(), "tcp"), 0u);
  // Asked for, it is there again, beside the other.
  ASSERT_TRUE(pair.initiator().install_transport("shm").ok());
  ASSERT_TRUE(pair.works());
  EXPECT_TRUE(installed(pair.initiator(), "tcp"));
  EXPECT_GT(bytes_of(pair.initiator(), "shm"), 0u);
  // And the target decides as well.
  ASSERT_TRUE(pair.target().install_transport("tcp").ok());
  ASSERT_TRUE(pair.initiator().sync_segment_cache().ok());
  ASSERT_TRUE(pair.works());
  for (const PathInfo& path : pair.initiator().paths()) {
    if (path.segment == pair.target().local_endpoint()) {
      EXPECT_EQ(path.transport, "tcp");
    }
  }
}

// What the engine of a mover said of `shm` at the level of warnings.
std::vector<std::string> shm_warnings(const MoverEnd& end) {
  std::vector<std::string> warnings;
  std::istringstream lines(end.said);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("transfer_engine warning: shm")) warnings.push_back(line);
  }
  return warnings;
}

// A sandbox around the initiator, in a process of its own; TCP takes over, and nobody notices.
class Sandboxed : public testing::Test {
 protected:
  MoverEnd move(bool allocate, std::vector<std::string> more, bool forbid_files = false,
                bool own_pids = false) {
    PeerProcess peer(
        {.size = kSize, .allocate = allocate, .forbid_files = forbid_files, .own_pids = own_pids});
    MoverEnd end = run_mover(
        {.segment = peer.segment(), .size = kSize, .volume = kVolume, .more = std::move(more)});
    EXPECT_TRUE(end.status == 0 || end.status == MoverEnd::kNotPossible) << end.said;
    return end;
  }
};

TEST_F(Sandboxed, ReachesMemoryByTcpWhereTheKernelForbidsItFromTheStart) {
  const MoverEnd end = move(false, {"--forbid", "first"});
  if (end.status == MoverEnd::kNotPossible) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_GE(end.bytes("tcp"), kVolume) << end.said;
  EXPECT_EQ(end.bytes("shm"), 0u);
  EXPECT_EQ(end.failed_slices("shm"), 0u) << "it was known before anything was tried";
  ASSERT_EQ(shm_warnings(end).size(), 1u) << end.said;
  EXPECT_NE(shm_warnings(end)[0].find("the kernel forbids"), std::string::npos) << end.said;
}

TEST_F(Sandboxed, ReachesMemoryByTcpOnceTheKernelForbidsIt) {
  const MoverEnd end = move(false, {"--forbid", "later"});
  if (end.status == MoverEnd::kNotPossible) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_GE(end.bytes("tcp"), kVolume) << end.said;
  EXPECT_GT(end.bytes("shm"), 0u);
  EXPECT_GT(end.failed_slices("shm"), 0u);
}

TEST_F(Sandboxed, StillMapsWhatTheTargetsEngineAllocated) {
  const MoverEnd end = move(true, {"--forbid", "first"});
  if (end.status == MoverEnd::kNotPossible) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_GE(end.bytes("shm"), kVolume) << end.said;
  EXPECT_EQ(end.bytes("tcp"), 0u);
  EXPECT_EQ(end.failed_slices("shm"), 0u);
  EXPECT_TRUE(shm_warnings(end).empty()) << end.said;
}

TEST_F(Sandboxed, MapsAloneWhereThereIsNoOtherWay) {
  const MoverEnd end = move(true, {"--forbid", "first", "--transport", "shm"});
  if (end.status == MoverEnd::kNotPossible) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_GE(end.bytes("shm"), kVolume) << end.said;
}

TEST_F(Sandboxed, WithoutMemoryFilesOfItsOwnItGoesByTcp) {
  const MoverEnd end = move(true, {"--forbid", "files"});
  if (end.status == MoverEnd::kNotPossible) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_GE(end.bytes("tcp"), kVolume) << end.said;
  EXPECT_EQ(end.bytes("shm"), 0u);
}

TEST_F(Sandboxed, ATargetWithoutMemoryFilesAllocatesAllTheSame) {
  const unsigned refuse = SECCOMP_RET_ERRNO;
  if (::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &refuse) != 0) {
    GTEST_SKIP() << "no seccomp filters here";
  }
  const MoverEnd end = move(true, {}, true);
  EXPECT_GE(end.bytes("tcp"), kVolume) << end.said;
}

TEST_F(Sandboxed, AnotherUserGoesByTcp) {
  const MoverEnd end = move(true, {"--user", "65534"});
  if (end.status == MoverEnd::kNotPossible) GTEST_SKIP() << "only root can become another user";
  EXPECT_GE(end.bytes("tcp"), kVolume) << end.said;
  EXPECT_EQ(end.bytes("shm"), 0u);
}

// SO_PEERPIDFD, Linux 6.5.
bool watches_processes_it_cannot_see() {
  int ends[2], pidfd = -1;
  socklen_t size = sizeof pidfd;
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0) return false;
  const bool can = ::getsockopt(ends[0], SOL_SOCKET, 77, &pidfd, &size) == 0;
  for (const int fd : {ends[0], ends[1], pidfd}) ::close(fd);
  return can;
}

TEST_F(Sandboxed, AnotherPidNamespaceSharesWhatTheEngineAllocated) {
  const MoverEnd end = move(true, {"--own-pids", "1"});
  if (end.status == MoverEnd::kNotPossible) GTEST_SKIP() << "only root makes a pid namespace here";
  const bool shared = watches_processes_it_cannot_see();
  EXPECT_GE(end.bytes(shared ? "shm" : "tcp"), kVolume) << end.said;
  EXPECT_EQ(end.bytes(shared ? "tcp" : "shm"), 0u) << end.said;
  EXPECT_EQ(shm_warnings(end).size(), shared ? 0u : 1u) << end.said;
}

// As containers, neither of which sees the other's processes.
TEST_F(Sandboxed, TwoPidNamespacesShareWhatTheEngineAllocated) {
  const ChildEnd can = run_in_child(
      [] { return ::unshare(CLONE_NEWPID) == 0 ? 0 : static_cast<int>(ChildEnd::kNotPossible); });
  if (can.not_possible()) GTEST_SKIP() << "only root makes a pid namespace here";
  const bool shared = watches_processes_it_cannot_see();
  const MoverEnd end = move(true, {"--own-pids", "1"}, false, true);
  EXPECT_GE(end.bytes(shared ? "shm" : "tcp"), kVolume) << end.said;
  EXPECT_EQ(end.bytes(shared ? "tcp" : "shm"), 0u) << end.said;
  EXPECT_EQ(shm_warnings(end).size(), shared ? 0u : 1u) << end.said;
}

TEST_F(Sandboxed, AnotherPidNamespaceReachesOtherMemoryByTcp) {
  const MoverEnd end = move(false, {"--own-pids", "1"});
  if (end.status == MoverEnd::kNotPossible) GTEST_SKIP() << "only root makes a pid namespace here";
  EXPECT_GE(end.bytes("tcp"), kVolume) << end.said;
  EXPECT_EQ(end.bytes("shm"), 0u) << end.said;
  // Thousands of requests, one line, with the cause and the remedy.
  ASSERT_EQ(shm_warnings(end).size(), 1u) << end.said;
  EXPECT_NE(shm_warnings(end)[0].find("share a pid namespace"), std::string::npos) << end.said;
}

TEST(SameHost, WithoutAnotherWayTheErrorSaysWhatTheKernelForbids) {
  PeerProcess peer({.size = kSize});
  const MoverEnd end = run_mover({.segment = peer.segment(),
                                  .size = kSize,
                                  .volume = kVolume,
                                  .more = {"--forbid", "first", "--transport", "shm"}});
  if (end.status == MoverEnd::kNotPossible) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_EQ(end.status, 1);
  EXPECT_NE(end.said.find("forbids"), std::string::npos) << end.said;
}

// The way breaks under the initiator, for whatever reason, while the target lives.
TEST(SameHost, AWayThatBrokeIsMadeAnew) {
  for (const char* transport : {"shm", ""}) {
    Pair pair({}, transport);
    // Asked for, so that neither goes when the other is asked for.
    for (Engine* engine : {&pair.initiator(), &pair.target()}) {
      ASSERT_TRUE(engine->install_transport("shm").ok());
      if (std::string(transport).empty()) {
        ASSERT_TRUE(engine->install_transport("tcp").ok());
      }
    }
    ASSERT_TRUE(pair.initiator().sync_segment_cache().ok());
    ASSERT_TRUE(pair.works());
    ASSERT_GT(bytes_of(pair.initiator(), "shm"), 0u);
    ASSERT_TRUE(pair.target().uninstall_transport("shm").ok());
    ASSERT_TRUE(pair.target().install_transport("shm").ok());
    ASSERT_TRUE(pair.works());
    ASSERT_TRUE(pair.initiator().sync_segment_cache().ok());
    ASSERT_TRUE(pair.works());
    EXPECT_GT(bytes_of(pair.initiator(), "shm"), 0u);
    for (const PathInfo& path : pair.initiator().paths()) {
      if (path.transport == "shm") {
        EXPECT_EQ(path.state, "ready");
      }
    }
  }
}

TEST(SameHost, LocalMemoryThatIsGoneFailsItsOwnRequestAlone) {
  Pair pair({}, "shm");
  constexpr uint64_t kPiece = 4096, kCount = 32, kGone = 17;
  void* mapped =
      ::mmap(nullptr, kPiece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  ASSERT_TRUE(pair.initiator().register_memory(mapped, kPiece).ok());
  ASSERT_EQ(::munmap(mapped, kPiece), 0);
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    std::vector<TransferRequest> requests;
    for (uint64_t i = 0; i < kCount; ++i) {
      requests.push_back(
          {opcode, pair.local() + i * kPiece, pair.segment(), pair.address() + i * kPiece, kPiece});
    }
    requests[kGone].source = mapped;
    stamp(pair.local(), Pair::kSize, 1);
    stamp(pair.remote(), Pair::kSize, 2);
    const BatchId batch = *pair.initiator().allocate_batch(kCount);
    ASSERT_TRUE(pair.initiator().submit(batch, requests).ok());
    ASSERT_TRUE(pair.initiator().wait(batch, kPatience).ok());
    for (uint64_t i = 0; i < kCount; ++i) {
      const TaskState expected = i == kGone ? TaskState::kFailed : TaskState::kCompleted;
      EXPECT_EQ(pair.initiator().status(batch, i)->state, expected) << i;
      if (i == kGone) continue;
      EXPECT_EQ(std::memcmp(pair.local() + i * kPiece, pair.remote() + i * kPiece, kPiece), 0) << i;
    }
    EXPECT_TRUE(fails_with(pair.initiator().task_error(batch, kGone)->status,
                           Code::kInvalidArgument, "unmapped"));
    EXPECT_TRUE(pair.initiator().free_batch(batch).ok());
  }
  EXPECT_TRUE(pair.initiator().unregister_memory(mapped).ok());
  EXPECT_TRUE(pair.works());
}

TEST(SameHost, TheTargetsMemoryThatIsGoneFailsTheRequest) {
  Pair pair({}, "shm");
  void* mapped = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  ASSERT_TRUE(pair.target().register_memory(mapped, kSize).ok());
  ASSERT_TRUE(pair.initiator().sync_segment_cache().ok());
  ASSERT_EQ(::munmap(mapped, kSize), 0);
  const auto there = reinterpret_cast<uint64_t>(mapped);
  EXPECT_EQ(
      transfer(pair.initiator(), {{Opcode::kWrite, pair.local(), pair.segment(), there, 4096}})
          .state,
      TaskState::kFailed);
  EXPECT_TRUE(pair.target().unregister_memory(mapped).ok());
  EXPECT_TRUE(pair.works());
}

// Memory that the target's engine allocated, loaded from this process.
TEST(Allocated, FreeingWaitsForPeersThatCopy) {
  constexpr int kThreads = 4;
  constexpr uint64_t kPart = kSize / kThreads;
  PeerProcess peer({.size = kSize, .allocate = true});
  ASSERT_TRUE(peer.running());
  std::unique_ptr<Engine> engine = make_engine({}, "shm");
  Registered local(*engine, kSize);
  const Result<SegmentId> segment = engine->open_segment(peer.segment());
  ASSERT_TRUE(segment.ok()) << segment.status().to_string();
  ASSERT_EQ(peer.ask("fill 33"), "ok");
  std::atomic<int> completed{0}, torn{0}, strange{0};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const TransferRequest request{Opcode::kRead, local.data() + t * kPart, *segment,
                                    peer.address() + t * kPart, kPart};
      for (;;) {
        const BatchId batch = *engine->allocate_batch(1);
        const bool submitted = engine->submit(batch, {&request, 1}).ok();
        if (submitted && !engine->wait(batch, kPatience).ok()) ++strange;
        const TaskState state = engine->status(batch, 0)->state;
        EXPECT_TRUE(engine->free_batch(batch).ok());
        if (state != TaskState::kCompleted) {
          if (submitted && state != TaskState::kFailed) ++strange;
          return;
        }
        ++completed;
        // What was given back to the kernel would read as zeros.
        if (other_than(local.data() + t * kPart, kPart, std::byte{33}) != kSame) ++torn;
      }
    });
  }
  EXPECT_TRUE(eventually([&] { return completed.load() > 40; }));
  EXPECT_EQ(peer.ask("free"), "ok");
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(strange.load(), 0);
  EXPECT_EQ(torn.load(), 0);
  EXPECT_NE(peer.ask("free"), "ok") << "twice";
}

// Minor page faults of this process so far.
uint64_t page_faults() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_minflt);
}

size_t allocated_memory_mapped() {
  std::ifstream maps("/proc/self/maps");
  size_t count = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("transfer-engine-memory") != std::string::npos) ++count;
  }
  return count;
}

// A warm-up leaves nothing to map, and no page to fault in, to the first transfer.
TEST(Allocated, AWarmUpMapsIt) {
  constexpr uint64_t kPages = kSize / 4096;
  PeerProcess peer({.size = kSize, .seed = 3, .allocate = true, .transport = "shm"});
  ASSERT_TRUE(peer.running());
  uint64_t faults_when_cold = 0;
  for (const bool warm : {false, true}) {
    std::unique_ptr<Engine> engine = make_engine({}, "shm");
    Registered local(*engine, kSize);
    fill(local.data(), kSize, 1);
    const Result<SegmentId> segment = engine->open_segment(peer.segment());
    ASSERT_TRUE(segment.ok()) << segment.status().to_string();
    EXPECT_EQ(allocated_memory_mapped(), 0u);
    if (warm) {
      ASSERT_TRUE(engine->warmup_segment(peer.segment()).ok());
      EXPECT_EQ(allocated_memory_mapped(), 1u);
    }
    const uint64_t before = page_faults();
    ASSERT_EQ(transfer(*engine, {{Opcode::kWrite, local.data(), *segment, 0, kSize}}).state,
              TaskState::kCompleted);
    const uint64_t faults = page_faults() - before;
    EXPECT_EQ(allocated_memory_mapped(), 1u);
    // The kernel may map sixteen pages at once; a sanitizer has faults of its own, both times.
    if (warm) {
      EXPECT_LE(faults + kPages / 32, faults_when_cold);
    }
    faults_when_cold = faults;
  }
}

TEST(Allocated, ManyComeAndGoWithoutAnythingLeft) {
  Pair pair({}, "shm");
  size_t descriptors = 0;
  for (uint64_t round = 0; round < 50; ++round) {
    if (round == 5) descriptors = open_descriptors();
    std::vector<void*> memory;
    for (int i = 0; i < 8; ++i) {
      const Result<void*> allocated = pair.target().allocate(100'000);
      ASSERT_TRUE(allocated.ok()) << allocated.status().to_string();
      memory.push_back(*allocated);
    }
    stamp(pair.local(), 100'000, round);
    for (void* there : memory) {
      ASSERT_EQ(other_than(static_cast<std::byte*>(there), 100'000, std::byte{0}), kSame)
          << "zeroed";
      ASSERT_EQ(transfer(pair.initiator(), {{Opcode::kWrite, pair.local(), pair.segment(),
                                             reinterpret_cast<uint64_t>(there), 100'000}})
                    .state,
                TaskState::kCompleted);
      ASSERT_EQ(difference(static_cast<std::byte*>(there), 100'000, round), kSame);
      ASSERT_TRUE(pair.target().free(there).ok());
    }
  }
  EXPECT_TRUE(eventually([&] { return open_descriptors() <= descriptors; }))
      << open_descriptors() << " after " << descriptors;
  EXPECT_TRUE(pair.works());
}

TEST(Allocated, ReleasedMemoryOutlivesTheEngine) {
  constexpr size_t kLength = 100'000;
  std::unique_ptr<Engine> target = make_engine({}, "shm");
  std::unique_ptr<Engine> initiator = make_engine({}, "shm");
  Registered local(*initiator, kLength);
  const Result<void*> memory = target->allocate(kLength);
  ASSERT_TRUE(memory.ok()) << memory.status().to_string();
  const Result<SegmentId> segment = initiator->open_segment(target->local_endpoint());
  ASSERT_TRUE(segment.ok()) << segment.status().to_string();
  stamp(local.data(), kLength, 1);
  const TransferRequest write{Opcode::kWrite, local.data(), *segment,
                              reinterpret_cast<uint64_t>(*memory), kLength};
  ASSERT_EQ(transfer(*initiator, {write}).state, TaskState::kCompleted);
  const Result<size_t> mapped = target->release(*memory);
  ASSERT_TRUE(mapped.ok()) << mapped.status().to_string();
  EXPECT_GE(*mapped, kLength);
  EXPECT_TRUE(target->describe_segment(kLocalSegment)->buffers.empty());
  EXPECT_TRUE(fails_with(target->free(*memory), Code::kNotFound, "allocate"));
  EXPECT_TRUE(fails_with(target->release(*memory), Code::kNotFound, "allocate"));
  target.reset();
  EXPECT_EQ(difference(static_cast<std::byte*>(*memory), kLength, 1), kSame);
  EXPECT_EQ(::munmap(*memory, *mapped), 0);
}

TEST(Allocated, WrongUseIsAnError) {
  std::unique_ptr<Engine> engine = make_engine();
  EXPECT_TRUE(fails_with(engine->allocate(0), Code::kInvalidArgument, "length"));
  EXPECT_TRUE(fails_with(engine->allocate(4096, {.location = "cpu:4000"}), Code::kInvalidArgument,
                         "cpu:4000"));
  EXPECT_FALSE(engine->allocate(uint64_t{1} << 62).ok());
  EXPECT_TRUE(fails_with(engine->allocate(SIZE_MAX), Code::kInvalidArgument, "memory"));
  std::byte other{};
  EXPECT_TRUE(fails_with(engine->free(&other), Code::kNotFound, "allocate"));
  const Result<void*> memory = engine->allocate(5000, {.location = "cpu:0"});
  ASSERT_TRUE(memory.ok()) << memory.status().to_string();
  EXPECT_TRUE(fails_with(engine->register_memory(*memory, 50), Code::kAlreadyExists, "overlap"));
  EXPECT_TRUE(fails_with(engine->register_memory(*memory, 5000, "cpu:0"), Code::kAlreadyExists,
                         "allocated by the engine"));
  EXPECT_TRUE(fails_with(engine->unregister_memory(*memory), Code::kInvalidArgument, "free"));
  EXPECT_EQ(engine->describe_segment(kLocalSegment)->buffers.at(0).length, 5000u);
  EXPECT_TRUE(engine->free(*memory).ok());
  EXPECT_TRUE(fails_with(engine->free(*memory), Code::kNotFound, "allocate"));
  EXPECT_TRUE(engine->describe_segment(kLocalSegment)->buffers.empty());
  ASSERT_TRUE(engine->allocate(1 << 20, {.access = Access::kNone}).ok());  // goes with the engine
}

TEST(Allocated, HugePagesAreTakenOrTheErrorSaysWhatIsMissing) {
  std::unique_ptr<Engine> engine = make_engine();
  const Result<void*> any = engine->allocate(3 << 20, {.huge_pages = HugePages::kPrefer});
  ASSERT_TRUE(any.ok()) << any.status().to_string();
  fill(static_cast<std::byte*>(*any), 3 << 20, 1);
  EXPECT_TRUE(engine->free(*any).ok());
  const Result<void*> huge = engine->allocate(3 << 20, {.huge_pages = HugePages::kRequire});
  if (huge.ok()) {
    fill(static_cast<std::byte*>(*huge), 3 << 20, 1);
    EXPECT_TRUE(engine->free(*huge).ok());
  } else {
    EXPECT_TRUE(fails_with(huge, Code::kResource, "nr_hugepages"));
  }
}

}  // namespace
}  // namespace te::test
