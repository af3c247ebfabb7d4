// Processes that fork while they have engines: the parent goes on as if nothing had happened, and
// the child holds nothing of it.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <vector>

#include "base/open_sockets.h"
#include "engine/pair.h"
#include "support/child.h"
#include "support/facts.h"
#include "support/peer.h"
#include "support/servers.h"
#include "transfer_engine_c.h"

namespace te::test {
namespace {

std::string host_and_transport_name(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  for (char& c : name) c = c == ':' ? '_' : c;
  return name;
}

// By which others could reach this process: IP sockets, and local ones that have a name at one end,
// which the pairs by which a library wakes its own threads have not.
int open_sockets() {
  const auto reachable = [](const SocketAddress& address) {
    const sa_family_t family = address.storage.ss_family;
    return family == AF_INET || family == AF_INET6 ||
           (family == AF_UNIX && address.length > sizeof family);
  };
  const std::vector<int> open = list_descriptors();
  return static_cast<int>(std::count_if(open.begin(), open.end(), [&](int fd) {
    return reachable(local_address(fd)) || reachable(peer_address(fd));
  }));
}

// Runs in a process of its own, whose children are forked from it by fork_and_wait().
void in_process(const std::function<int()>& body) {
  const ChildEnd end = run_in_child(body);
  EXPECT_TRUE(end.ok()) << end.describe();
}

// The exit status of a child, or -1 where it was killed or did not end.
int fork_and_wait(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(30);
    const int status = body();
    std::fflush(nullptr);
    ::_exit(testing::Test::HasFailure() ? 1 : status);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class ForkOver : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (kThreadSanitized) GTEST_SKIP() << "ThreadSanitizer allows no threads in such a child";
  }
};

TEST_P(ForkOver, TheChildHasNoSocketAndTheParentGoesOn) {
  in_process([] {
    Pair pair({}, GetParam());
    EXPECT_TRUE(pair.works());
    EXPECT_GT(open_sockets(), 0);
    EXPECT_EQ(fork_and_wait([] { return open_sockets(); }), 0);
    EXPECT_TRUE(pair.works());
    return 0;
  });
}

TEST_P(ForkOver, TheChildUsesAnEngineOfItsOwn) {
  in_process([] {
    Pair pair({}, GetParam());
    EXPECT_TRUE(pair.works());
    const std::string parents_target = pair.target().local_endpoint();
    const uint64_t there = pair.address();
    EXPECT_EQ(fork_and_wait([&] {
                std::unique_ptr<Engine> engine = make_engine({}, GetParam());
                Registered local(*engine, 1 << 20);
                stamp(local.data(), 1 << 20, 77);
                const Result<SegmentId> segment = engine->open_segment(parents_target);
                EXPECT_TRUE(segment.ok()) << segment.status().to_string();
                if (!segment.ok()) return 1;
                const TransferStatus end =
                    transfer(*engine, {{Opcode::kWrite, local.data(), *segment, there, 1 << 20}});
                EXPECT_EQ(end.state, TaskState::kCompleted);
                return 0;
              }),
              0);
    EXPECT_EQ(difference(pair.remote(), 1 << 20, 77), kSame);
    EXPECT_TRUE(pair.works());
    return 0;
  });
}

INSTANTIATE_TEST_SUITE_P(Transports, ForkOver, testing::Values("tcp", "shm", "fabric:tcp"),
                         host_and_transport_name);

class Fork : public ForkOver {};

TEST_F(Fork, EveryCallInTheChildIsAnErrorThatSaysWhy) {
  in_process([] {
    Pair pair({}, "");
    EXPECT_TRUE(pair.works());
    Result<BatchId> batch = pair.initiator().allocate_batch(1);
    const std::string parent = std::to_string(::getpid());
    EXPECT_EQ(fork_and_wait([&] {
                Engine& engine = pair.initiator();
                const TransferRequest request = pair.write(0, 16);
                const auto refused = [&parent](const Status& status) {
                  EXPECT_TRUE(fails_with(status, Code::kUnsupported, "process " + parent));
                };
                refused(engine.check_process());
                refused(engine.submit(*batch, {&request, 1}));
                refused(engine.wait(*batch));
                refused(engine.status(*batch, 0).status());
                refused(engine.cancel(*batch));
                refused(engine.free_batch(*batch));
                refused(engine.register_memory(pair.local(), 1));
                refused(engine.unregister_memory(pair.local()));
                refused(engine.allocate(4096).status());
                refused(engine.release(pair.local()).status());
                refused(engine.open_segment(pair.target().local_endpoint()).status());
                refused(engine.install_transport("tcp"));
                refused(engine.notify(pair.segment(), {"a", "b"}));
                refused(engine.sync_segment_cache());
                EXPECT_TRUE(engine.paths().empty());
                EXPECT_TRUE(engine.take_notifications().empty());
                // The C API says the same; its functions take the C++ object.
                char text[64];
                EXPECT_EQ(getLocalIpAndPort(&engine, text, sizeof text), TE_ERR_UNSUPPORTED);
                EXPECT_EQ(freeBatchID(&engine, *batch), TE_ERR_UNSUPPORTED);
                EXPECT_NE(std::string(transferEngineLastError()).find(parent), std::string::npos);
                return 0;
              }),
              0);
    EXPECT_TRUE(pair.initiator().free_batch(*batch).ok());
    EXPECT_TRUE(pair.works());
    return 0;
  });
}

transfer_engine_t engine_of_exit = nullptr;

TEST_F(Fork, ItsDestructorsDoNothing) {
  in_process([] {
    RedisServer redis;
    const bool server = redis.available() && redis.start().ok();
    const std::string metadata = server ? redis.url() : "P2PHANDSHAKE";
    engine_of_exit = createTransferEngine(metadata.c_str(), "parent", "127.0.0.1", 0, 0);
    if (engine_of_exit == nullptr) return 1;
    enableGracefulShutdown(engine_of_exit);
    char name[256];
    EXPECT_EQ(getLocalIpAndPort(engine_of_exit, name, sizeof name), 0);
    EXPECT_EQ(fork_and_wait([] {
                destroyTransferEngine(engine_of_exit);
                return 0;
              }),
              0);
    const Stopwatch watch;
    EXPECT_EQ(fork_and_wait([] {
                std::atexit([] { destroyTransferEngine(engine_of_exit); });
                std::exit(0);
                return 1;
              }),
              0);
    EXPECT_LT(watch.ms(), 10'000);
    transfer_engine_t other = createTransferEngine(metadata.c_str(), "other", "127.0.0.1", 0, 0);
    EXPECT_GE(openSegment(other, server ? "parent" : name), 0) << transferEngineLastError();
    destroyTransferEngine(other);
    destroyTransferEngine(engine_of_exit);
    return 0;
  });
}

// libcurl's and our own.
TEST_F(Fork, TheChildHasNoConnectionToADirectory) {
  in_process([] {
    EtcdServer etcd;
    RedisServer redis;
    std::vector<std::string> servers;
    if (etcd.available() && etcd.start().ok()) servers.push_back(etcd.url());
    if (redis.available() && redis.start().ok()) servers.push_back(redis.url());
    for (const std::string& server : servers) {
      EngineOptions options;
      options.metadata = server;
      options.name = "parent";
      options.host = "127.0.0.1";
      const Result<std::unique_ptr<Engine>> engine = Engine::create(options);
      EXPECT_TRUE(engine.ok()) << engine.status().to_string();
      EXPECT_GT(open_sockets(), 1);
      EXPECT_EQ(fork_and_wait([] { return open_sockets(); }), 0) << server;
    }
    return 0;
  });
}

TEST_F(Fork, ASignalToTheChildIsItsOwn) {
  in_process([] {
    transfer_engine_t engine = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "127.0.0.1", 0, 0);
    enableGracefulShutdown(engine);
    for (int i = 0; i < 3; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        for (;;) ::pause();
      }
      ::kill(child, SIGTERM);
      int status = 0;
      EXPECT_EQ(::waitpid(child, &status, 0), child);
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    }
    char name[256];
    EXPECT_EQ(getLocalIpAndPort(engine, name, sizeof name), 0);
    destroyTransferEngine(engine);
    return 0;
  });
}

// The child keeps nothing open, so peers notice at once, and the port is free.
TEST_F(Fork, AnIdleChildDoesNotOutliveItsParentForPeers) {
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  struct Ready {
    pid_t child;
    uint16_t port;
  } ready{};
  const pid_t target = ::fork();
  if (target == 0) {
    std::unique_ptr<Engine> engine = make_engine();
    Registered memory(*engine, 1 << 20);
    const pid_t child = ::fork();
    if (child == 0) {
      for (;;) ::pause();
    }
    const std::string name = engine->local_endpoint();
    const Ready mine{child, static_cast<uint16_t>(std::stoi(name.substr(name.rfind(':') + 1)))};
    (void)!::write(pipe[1], &mine, sizeof mine);
    for (;;) ::pause();
  }
  ASSERT_EQ(::read(pipe[0], &ready, sizeof ready), static_cast<ssize_t>(sizeof ready));
  {
    std::unique_ptr<Engine> engine = make_engine({{"retry_window_ms", "100"}});
    Registered local(*engine, 1 << 20);
    const std::string name = "127.0.0.1:" + std::to_string(ready.port);
    const Result<SegmentId> segment = engine->open_segment(name);
    ASSERT_TRUE(segment.ok()) << segment.status().to_string();
    const TransferRequest request{Opcode::kRead, local.data(), *segment, 0, 4096};
    EXPECT_EQ(transfer(*engine, {request}).state, TaskState::kCompleted);
    ::kill(target, SIGKILL);
    ::waitpid(target, nullptr, 0);
    const Stopwatch watch;
    EXPECT_EQ(transfer(*engine, {request}).state, TaskState::kFailed);
    EXPECT_LT(watch.ms(), 10'000) << "a dead target was waited for";
    EngineOptions options;
    options.host = "127.0.0.1";
    options.port = ready.port;
    EXPECT_TRUE(Engine::create(options).ok()) << "its port is in use";
  }
  ::kill(ready.child, SIGKILL);
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST_F(Fork, ForksInTheMiddleOfTransfersHarmNeither) {
  if (kSanitized && !kThreadSanitized) {
    GTEST_SKIP() << "AddressSanitizer does not hold the locks of its allocator during a fork: the "
                    "child waits for a thread that it does not have";
  }
  in_process([] {
    Pair pair({}, "");
    EXPECT_TRUE(pair.works());
    std::atomic<bool> stop{false};
    std::atomic<int> moved{0};
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < 3; ++i) {
      threads.emplace_back([&, i] {
        while (!stop.load()) {
          const TransferRequest request = pair.write(i << 20, 1 << 20);
          EXPECT_EQ(transfer(pair.initiator(), {request}).state, TaskState::kCompleted);
          ++moved;
        }
      });
    }
    for (int i = 0; i < 10; ++i) {
      EXPECT_EQ(fork_and_wait([] {
                  EXPECT_EQ(open_sockets(), 0);
                  return make_engine() == nullptr ? 1 : 0;
                }),
                0);
    }
    stop.store(true);
    for (std::thread& thread : threads) thread.join();
    EXPECT_GT(moved.load(), 0);
    EXPECT_TRUE(pair.works());
    return 0;
  });
}

}  // namespace
}  // namespace te::test
