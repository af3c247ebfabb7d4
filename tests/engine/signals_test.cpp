// Graceful shutdown beside an application that has its own mind about signals, and a library that
// is closed.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <thread>

#include "support/child.h"
#include "support/engines.h"
#include "support/facts.h"
#include "support/servers.h"
#include "transfer_engine_c.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

volatile sig_atomic_t handled = 0;
void count(int) { handled = handled + 1; }

bool is_default(int number) {
  struct sigaction present {};
  ::sigaction(number, nullptr, &present);
  return (present.sa_flags & SA_SIGINFO) == 0 && present.sa_handler == SIG_DFL;
}

class Signals : public testing::Test {
 protected:
  void SetUp() override {
    if (!redis_.available()) GTEST_SKIP() << redis_.program() << " is not installed";
    ASSERT_TRUE(redis_.start().ok());
  }

  transfer_engine_t make(const std::string& name) {
    transfer_engine_t engine =
        createTransferEngine(redis_.url().c_str(), name.c_str(), "127.0.0.1", 0, 0);
    EXPECT_NE(engine, nullptr) << transferEngineLastError();
    return engine;
  }
  transfer_engine_t make_graceful(const std::string& name) {
    transfer_engine_t engine = make(name);
    enableGracefulShutdown(engine);
    return engine;
  }
  // Whether the directory has the name.
  bool published(const std::string& name) {
    transfer_engine_t engine = make("prober");
    const bool opens = openSegment(engine, name.c_str()) >= 0;
    destroyTransferEngine(engine);
    return opens;
  }

  RedisServer redis_;
};

TEST_F(Signals, WhatTheApplicationIgnoresWithdrawsNothing) {
  const ChildEnd end = run_in_child([this] {
    ::signal(SIGINT, SIG_IGN);
    transfer_engine_t engine = make_graceful("ignores");
    ::kill(::getpid(), SIGINT);
    std::this_thread::sleep_for(milliseconds(200));
    EXPECT_TRUE(published("ignores"));
    destroyTransferEngine(engine);
    struct sigaction present {};
    ::sigaction(SIGINT, nullptr, &present);
    EXPECT_EQ(present.sa_handler, SIG_IGN);
    return 0;
  });
  EXPECT_TRUE(end.ok()) << end.describe();
}

TEST_F(Signals, WhatTheApplicationHandlesIsItsOwn) {
  const ChildEnd end = run_in_child([this] {
    ::signal(SIGINT, count);
    transfer_engine_t engine = make_graceful("handles");
    for (int i = 1; i <= 3; ++i) {
      ::kill(::getpid(), SIGINT);
      EXPECT_TRUE(eventually([i] { return handled == i; }));
    }
    std::this_thread::sleep_for(milliseconds(200));
    EXPECT_TRUE(published("handles"));
    // A handler that came later, too.
    ::signal(SIGTERM, count);
    ::kill(::getpid(), SIGTERM);
    EXPECT_TRUE(eventually([] { return handled == 4; }));
    std::this_thread::sleep_for(milliseconds(200));
    EXPECT_TRUE(published("handles"));
    destroyTransferEngine(engine);
    return 0;
  });
  EXPECT_TRUE(end.ok()) << end.describe();
}

TEST_F(Signals, AnEndByExitWithdrawsTheName) {
  const ChildEnd end = run_in_child([this] {
    (void)make_graceful("exits");
    EXPECT_TRUE(published("exits"));
    std::exit(0);
    return 1;
  });
  EXPECT_EQ(end.status, 0) << end.describe();
  EXPECT_FALSE(published("exits"));
}

TEST_F(Signals, AllEnginesAreWithdrawnAndTheSignalIsTheEnd) {
  const ChildEnd end = run_in_child([this] {
    for (const char* name : {"one", "two", "three"}) (void)make_graceful(name);
    ::kill(::getpid(), SIGTERM);
    for (;;) ::pause();
    return 1;
  });
  EXPECT_TRUE(WIFSIGNALED(end.status) && WTERMSIG(end.status) == SIGTERM) << end.describe();
  for (const char* name : {"one", "two", "three"}) EXPECT_FALSE(published(name)) << name;
}

TEST_F(Signals, ADirectoryThatDoesNotAnswerDelaysTheEndLittle) {
  const ChildEnd end = run_in_child([this] {
    for (const char* name : {"one", "two", "three", "four"}) (void)make_graceful(name);
    EXPECT_TRUE(redis_.freeze());
    std::printf("stopped\n");
    std::fflush(stdout);
    ::kill(::getpid(), SIGTERM);
    std::this_thread::sleep_for(milliseconds(kSanitized ? 12'000 : 6'000));
    return 1;
  });
  redis_.signal(SIGCONT);
  EXPECT_TRUE(WIFSIGNALED(end.status) && WTERMSIG(end.status) == SIGTERM) << end.describe();
}

TEST_F(Signals, AfterTheLastEngineNothingIsLeft) {
  const ChildEnd end = run_in_child([this] {
    destroyTransferEngine(make("warm"));
    const size_t threads = thread_count(), descriptors = open_descriptors();
    for (int i = 0; i < 5; ++i) {
      transfer_engine_t one = make_graceful("first");
      transfer_engine_t two = make_graceful("second");
      EXPECT_FALSE(is_default(SIGTERM));
      destroyTransferEngine(one);
      EXPECT_FALSE(is_default(SIGTERM));
      destroyTransferEngine(two);
      EXPECT_TRUE(is_default(SIGTERM));
      EXPECT_TRUE(is_default(SIGINT));
    }
    EXPECT_TRUE(eventually([threads] { return thread_count() <= threads; }));
    EXPECT_TRUE(eventually([descriptors] { return open_descriptors() <= descriptors; }));
    ::kill(::getpid(), SIGTERM);
    return 1;
  });
  EXPECT_TRUE(WIFSIGNALED(end.status) && WTERMSIG(end.status) == SIGTERM) << end.describe();
}

// The shared library as a plug-in of a program that knows nothing of it.
class Plugin {
 public:
  Plugin() : handle_(::dlopen(TE_TEST_LIBRARY, RTLD_NOW | RTLD_LOCAL)) {
    EXPECT_NE(handle_, nullptr) << ::dlerror();
    load("createTransferEngine", create_);
    load("destroyTransferEngine", destroy_);
    load("enableGracefulShutdown", graceful_);
  }
  ~Plugin() { ::dlclose(handle_); }
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;

  transfer_engine_t make_graceful() {
    transfer_engine_t engine = create_("P2PHANDSHAKE", "127.0.0.1", "127.0.0.1", 0, 0);
    EXPECT_NE(engine, nullptr);
    graceful_(engine);
    return engine;
  }
  void destroy(transfer_engine_t engine) { destroy_(engine); }

 private:
  template <typename Function>
  void load(const char* name, Function*& function) {
    function = reinterpret_cast<Function*>(::dlsym(handle_, name));
    EXPECT_NE(function, nullptr) << name;
  }

  void* handle_;
  decltype(::createTransferEngine)* create_ = nullptr;
  decltype(::destroyTransferEngine)* destroy_ = nullptr;
  decltype(::enableGracefulShutdown)* graceful_ = nullptr;
};

TEST(Unloading, LeavesNothingAndMayHappenAgain) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer does not come with a plug-in";
  const ChildEnd end = run_in_child([] {
    size_t threads = 0, descriptors = 0;
    for (int i = 0; i < 5; ++i) {
      Plugin plugin;
      plugin.destroy(plugin.make_graceful());
      if (i == 0) {
        threads = thread_count();
        descriptors = open_descriptors();
      }
    }
    EXPECT_TRUE(eventually([&] { return thread_count() <= threads; }));
    EXPECT_TRUE(eventually([&] { return open_descriptors() <= descriptors; }));
    ::kill(::getpid(), SIGTERM);
    return 1;
  });
  EXPECT_TRUE(WIFSIGNALED(end.status) && WTERMSIG(end.status) == SIGTERM) << end.describe();
}

TEST(Unloading, WithAnEngineThatLivesOnASignalStillEndsTheProcess) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer does not come with a plug-in";
  const ChildEnd end = run_in_child([] {
    {
      Plugin plugin;
      (void)plugin.make_graceful();
    }
    ::kill(::getpid(), SIGTERM);
    std::this_thread::sleep_for(std::chrono::seconds(10));
    return 1;
  });
  EXPECT_TRUE(WIFSIGNALED(end.status) && WTERMSIG(end.status) == SIGTERM) << end.describe();
}

}  // namespace
}  // namespace te::test
