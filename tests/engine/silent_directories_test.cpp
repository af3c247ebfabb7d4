// Metadata servers that take connections and never answer, or that no packet reaches any more: what
// waits for them, and what does not.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "base/log.h"
#include "base/socket.h"
#include "engine/pair.h"
#include "support/peer.h"
#include "support/servers.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kTimeoutMs = 3'000;  // of a call to the server
constexpr int64_t kEndMs = 100 + (kSanitized ? 1'500 : 250);

class SilentDirectory : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::string_view(GetParam()) == "etcd") {
      auto etcd = std::make_unique<EtcdServer>();
      url_ = [server = etcd.get()] { return server->url(); };
      server_ = std::move(etcd);
    } else {
      auto redis = std::make_unique<RedisServer>();
      url_ = [server = redis.get()] { return server->url(); };
      server_ = std::move(redis);
    }
    if (!server_->available()) GTEST_SKIP() << server_->program() << " is not installed";
    ASSERT_TRUE(server_->start().ok());
  }
  void TearDown() override {
    if (server_->running()) server_->signal(SIGCONT);
    set_log_hook({});
  }

  EngineOptions options(const std::string& name) const {
    EngineOptions result;
    result.metadata = url_();
    result.name = name;
    result.host = "127.0.0.1";
    result.config = {{"directory_lease_s", "1"},
                     {"directory_timeout_ms", std::to_string(kTimeoutMs)}};
    return result;
  }
  std::unique_ptr<Engine> engine(const std::string& name) const {
    Result<std::unique_ptr<Engine>> made = Engine::create(options(name));
    EXPECT_TRUE(made.ok()) << made.status().to_string();
    if (!made.ok()) return nullptr;
    EXPECT_TRUE((*made)->install_transport("tcp").ok());
    return made.take();
  }
  // From now on the warnings are kept.
  void keep_warnings() {
    set_log_hook([this](LogLevel level, std::string_view text) {
      MutexLock lock(mutex_);
      if (level == LogLevel::kWarning) warnings_.emplace_back(text);
    });
  }
  // Of the warnings, those that have the text.
  size_t warned_of(const std::string& text) {
    MutexLock lock(mutex_);
    return static_cast<size_t>(std::count_if(
        warnings_.begin(), warnings_.end(),
        [&text](const std::string& each) { return each.find(text) != std::string::npos; }));
  }

  std::unique_ptr<ServerProcess> server_;
  std::function<std::string()> url_;
  Mutex mutex_;
  std::vector<std::string> warnings_ TE_GUARDED_BY(mutex_);
};

TEST_P(SilentDirectory, DoesNotHoldUpTheEndOfEngines) {
  std::vector<std::unique_ptr<Engine>> engines;
  for (const char* name : {"one", "two", "three", "four"}) engines.push_back(engine(name));
  ASSERT_TRUE(server_->freeze());
  // The first one while its name is kept alive, too.
  std::this_thread::sleep_for(milliseconds(600));
  keep_warnings();
  for (std::unique_ptr<Engine>& each : engines) {
    const Stopwatch watch;
    each.reset();
    EXPECT_LE(watch.ms(), kEndMs);
  }
  EXPECT_EQ(warned_of("stays in"), 4u);
  // They are withdrawn all the same when it answers again.
  server_->signal(SIGCONT);
  const std::unique_ptr<Engine> other = engine("other");
  EXPECT_TRUE(eventually([&] { return other->open_segment("four").code() == Code::kNotFound; }));
}

TEST_P(SilentDirectory, IsNotWaitedForInTheMiddleOfALookUp) {
  const std::unique_ptr<Engine> target = engine("target");
  std::unique_ptr<Engine> initiator = engine("initiator");
  std::vector<std::byte> memory(4096);
  ASSERT_TRUE(initiator->register_memory(memory.data(), memory.size()).ok());
  const Result<SegmentId> id = initiator->open_segment("target");
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  ASSERT_TRUE(server_->freeze());
  std::vector<std::thread> openers;
  std::atomic<int> opened{0};
  // What an application still waits for comes back too.
  for (const char* name : {"this", "that"}) {
    openers.emplace_back([&, name] {
      EXPECT_FALSE(initiator->open_segment(name).ok());
      ++opened;
    });
  }
  std::this_thread::sleep_for(milliseconds(200));
  EXPECT_EQ(opened.load(), 0);
  const Stopwatch watch;
  const BatchId batch =
      submit_new(*initiator, {{Opcode::kWrite, memory.data(), *id, 1 << 30, 1}}, within(100));
  ASSERT_TRUE(initiator->wait(batch, kPatience).ok());
  EXPECT_LE(watch.ms(), kEndMs);
  for (std::thread& each : openers) each.join();
  // A look-up hangs again, of which only recovery knows.
  (void)submit_new(*initiator, {{Opcode::kWrite, memory.data(), *id, 1 << 30, 1}}, within(60'000));
  std::this_thread::sleep_for(milliseconds(100));
  const Stopwatch ending;
  initiator.reset();
  EXPECT_LE(ending.ms(), kEndMs);
}

// The kernel drops what would begin a connection to a socket whose queue is full.
TEST_P(SilentDirectory, ThatNoPacketReachesDoesNotHoldUpTheEndEither) {
  std::unique_ptr<Engine> one = engine("one");
  const SocketAddress at = resolve_host("127.0.0.1", server_->port())->front();
  server_->stop();
  const Result<Fd> listening = listen_tcp("127.0.0.1", at.port(), 0);
  ASSERT_TRUE(listening.ok()) << listening.status().to_string();
  std::vector<Fd> filling;
  for (int i = 0; i < 4; ++i) {
    filling.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    (void)::connect(filling.back().get(), at.get(), at.length);
  }
  keep_warnings();
  const Stopwatch watch;
  one.reset();
  EXPECT_LE(watch.ms(), kEndMs);
  EXPECT_EQ(warned_of("stays in"), 1u);
}

INSTANTIATE_TEST_SUITE_P(Servers, SilentDirectory, testing::Values("etcd", "redis"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace te::test
