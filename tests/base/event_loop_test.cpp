#include "base/event_loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <semaphore>
#include <thread>

#include "base/clock.h"

namespace te {
namespace {

std::unique_ptr<EventLoop> make_loop() {
  Result<std::unique_ptr<EventLoop>> loop = EventLoop::create("te-test");
  EXPECT_TRUE(loop.ok()) << loop.status().to_string();
  return loop.take();
}

// Runs `task` on the loop and waits for it.
template <typename Task>
void on_loop(EventLoop& loop, Task task) {
  std::binary_semaphore done{0};
  ASSERT_TRUE(loop.run([&] {
    task();
    done.release();
  }));
  done.acquire();
}

struct Pipe {
  Pipe() {
    int fds[2];
    EXPECT_EQ(::pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    read = Fd(fds[0]);
    write = Fd(fds[1]);
  }
  void put() { EXPECT_EQ(::write(write.get(), "x", 1), 1); }
  Fd read, write;
};

class Handler final : public EventLoop::Handler {
 public:
  explicit Handler(std::function<void(uint32_t)> function) : function_(std::move(function)) {}
  void on_events(uint32_t events) override { function_(events); }

 private:
  std::function<void(uint32_t)> function_;
};

TEST(EventLoop, TasksRunInOrderOnItsThread) {
  auto loop = make_loop();
  std::vector<int> order;
  EXPECT_FALSE(loop->in_loop());
  EXPECT_TRUE(loop->run([&] { order.push_back(-1); }));  // before it starts
  ASSERT_TRUE(loop->start().ok());
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(loop->run([&, i] {
      EXPECT_TRUE(loop->in_loop());
      order.push_back(i);
    }));
  }
  on_loop(*loop, [] {});
  ASSERT_EQ(order.size(), 101u);
  for (int i = 0; i < 101; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i - 1);
}

TEST(EventLoop, NoTaskIsLostWhenManyThreadsHandThemOver) {
  auto loop = make_loop();
  ASSERT_TRUE(loop->start().ok());
  int ran = 0;  // the loop's
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 2'000; ++k) loop->run([&ran] { ++ran; });
    });
  }
  for (std::thread& thread : threads) thread.join();
  on_loop(*loop, [] {});
  EXPECT_EQ(ran, 8'000);
}

TEST(EventLoop, ATaskMayHandOverAnother) {
  auto loop = make_loop();
  ASSERT_TRUE(loop->start().ok());
  std::binary_semaphore ran{0};
  loop->run([&] { loop->run([&] { ran.release(); }); });
  ran.acquire();
}

TEST(EventLoop, StopRunsWhatWasHandedOverAndDropsTheRest) {
  auto loop = make_loop();
  ASSERT_TRUE(loop->start().ok());
  int ran = 0;
  for (int i = 0; i < 50; ++i) loop->run([&] { ++ran; });
  loop->stop();
  EXPECT_EQ(ran, 50);
  EXPECT_FALSE(loop->run([&] { ++ran; }));
  loop->stop();
  EXPECT_EQ(ran, 50);
}

TEST(EventLoop, ALastTaskRunsOnceAfterTheOthersAndMayEndItself) {
  struct Last final : EventLoop::LastTask {
    explicit Last(std::vector<int>& seen, int number) : order(seen), mine(number) {}
    void run() override {
      order.push_back(mine);
      delete this;
    }
    std::vector<int>& order;
    const int mine;
  };
  std::vector<int> order;
  const std::unique_ptr<EventLoop> loop = make_loop();
  EXPECT_TRUE(loop->run(*new Last(order, 2)));
  EXPECT_TRUE(loop->run([&order] { order.push_back(1); }));
  ASSERT_TRUE(loop->start().ok());
  on_loop(*loop, [] {});
  EXPECT_TRUE(loop->run(*new Last(order, 3)));
  loop->stop();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
  Last* late = new Last(order, 4);
  EXPECT_FALSE(loop->run(*late));
  delete late;
}

TEST(EventLoop, StopsWithoutHavingStarted) {
  auto loop = make_loop();
  bool ran = false;
  EXPECT_TRUE(loop->run([&] { ran = true; }));
  loop->stop();
  EXPECT_TRUE(ran);
}

TEST(EventLoop, EventsReachTheHandlerOncePerEdge) {
  Pipe pipe;
  auto loop = make_loop();
  ASSERT_TRUE(loop->start().ok());
  std::counting_semaphore<16> seen{0};
  int calls = 0;
  Handler handler([&](uint32_t events) {
    EXPECT_NE(events & EPOLLIN, 0u);
    ++calls;
    seen.release();
  });
  on_loop(*loop, [&] { EXPECT_TRUE(loop->add(pipe.read.get(), EPOLLIN, &handler).ok()); });
  pipe.put();
  seen.acquire();
  on_loop(*loop, [] {});  // turns without reading: no new edge
  on_loop(*loop, [&] { EXPECT_EQ(calls, 1); });
  pipe.put();
  seen.acquire();
  on_loop(*loop, [&] { loop->remove(pipe.read.get(), &handler); });
  pipe.put();
  on_loop(*loop, [] {});
  on_loop(*loop, [&] { EXPECT_EQ(calls, 2); });
}

TEST(EventLoop, ABadDescriptorIsAnError) {
  auto loop = make_loop();
  Handler handler([](uint32_t) {});
  EXPECT_EQ(loop->add(-1, EPOLLIN, &handler).code(), Code::kResource);
}

TEST(EventLoop, AgainCallsInTheNextTurnWithoutEvents) {
  auto loop = make_loop();
  std::binary_semaphore done{0};
  std::vector<uint32_t> calls;
  EventLoop::Handler* self = nullptr;
  Handler handler([&](uint32_t events) {
    calls.push_back(events);
    if (calls.size() < 3) {
      loop->again(self);
      loop->again(self);  // once per turn all the same
    } else {
      done.release();
    }
  });
  self = &handler;
  ASSERT_TRUE(loop->start().ok());
  on_loop(*loop, [&] { loop->again(&handler); });
  done.acquire();
  on_loop(*loop, [] {});
  loop->stop();
  EXPECT_EQ(calls, (std::vector<uint32_t>{0, 0, 0}));
}

TEST(EventLoop, RemoveTakesAgainBack) {
  Pipe pipe;
  auto loop = make_loop();
  ASSERT_TRUE(loop->start().ok());
  int calls = 0;
  Handler handler([&](uint32_t) { ++calls; });
  on_loop(*loop, [&] {
    EXPECT_TRUE(loop->add(pipe.read.get(), EPOLLIN, &handler).ok());
    loop->again(&handler);
    loop->remove(pipe.read.get(), &handler);
  });
  on_loop(*loop, [] {});
  on_loop(*loop, [&] { EXPECT_EQ(calls, 0); });
}

// A handler that was removed in a turn gets no events of that turn, though they were at hand.
TEST(EventLoop, AHandlerRemovedInThisTurnIsLeftAlone) {
  Pipe first, second;
  auto loop = make_loop();
  ASSERT_TRUE(loop->start().ok());
  int calls = 0;
  std::vector<std::unique_ptr<Handler>> handlers(2);
  for (size_t i = 0; i < 2; ++i) {
    handlers[i] = std::make_unique<Handler>([&, i](uint32_t) {
      ++calls;
      Pipe& other = i == 0 ? second : first;
      loop->remove(other.read.get(), handlers[1 - i].get());
      loop->retire(std::move(handlers[1 - i]));
    });
  }
  on_loop(*loop, [&] {
    EXPECT_TRUE(loop->add(first.read.get(), EPOLLIN, handlers[0].get()).ok());
    EXPECT_TRUE(loop->add(second.read.get(), EPOLLIN, handlers[1].get()).ok());
    first.put();
    second.put();
  });
  on_loop(*loop, [] {});
  on_loop(*loop, [&] {
    EXPECT_EQ(calls, 1);
    EXPECT_NE(handlers[0] == nullptr, handlers[1] == nullptr);
    const size_t left = handlers[0] != nullptr ? 0 : 1;
    loop->remove(left == 0 ? first.read.get() : second.read.get(), handlers[left].get());
  });
}

TEST(EventLoop, RetireDestroysAtTheEndOfTheTurn) {
  struct Witness {
    bool& gone;
    ~Witness() { gone = true; }
  };
  bool gone = false;
  auto loop = make_loop();
  ASSERT_TRUE(loop->start().ok());
  auto witness = std::make_shared<Witness>(Witness{gone});
  gone = false;
  auto handler = std::make_unique<Handler>([witness](uint32_t) {});
  witness.reset();
  on_loop(*loop, [&] {
    loop->again(handler.get());
    loop->retire(std::move(handler));
    EXPECT_FALSE(gone);
  });
  on_loop(*loop, [] {});  // may share the turn
  on_loop(*loop, [] {});
  loop->stop();
  EXPECT_TRUE(gone);
}

TEST(EventLoop, TimersRunInTheOrderOfTheirTimes) {
  auto loop = make_loop();
  std::vector<int> order;
  std::binary_semaphore done{0};
  const int64_t begin_ns = std::chrono::steady_clock::now().time_since_epoch().count();
  loop->run_after(12, [&] {
    order.push_back(4);
    done.release();
  });
  loop->run_after(3, [&] { order.push_back(2); });
  loop->run_after(0, [&] { order.push_back(1); });
  loop->run_after(3, [&] { order.push_back(3); });
  ASSERT_TRUE(loop->start().ok());
  done.acquire();
  const int64_t end_ns = std::chrono::steady_clock::now().time_since_epoch().count();
  loop->stop();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 4}));
  EXPECT_GE(end_ns - begin_ns, 10'000'000);
}

TEST(EventLoop, ATimerMaySetAnother) {
  auto loop = make_loop();
  std::binary_semaphore done{0};
  ASSERT_TRUE(loop->start().ok());
  loop->run([&] { loop->run_after(1, [&] { loop->run_after(1, [&] { done.release(); }); }); });
  done.acquire();
}

TEST(EventLoop, TimersThatAreNotDueEndWithTheLoop) {
  auto held = std::make_shared<int>(1);
  bool ran = false;
  {
    auto loop = make_loop();
    loop->run_after(86'400'000, [&ran, held] { ran = true; });
    ASSERT_TRUE(loop->start().ok());
    on_loop(*loop, [] {});
  }
  EXPECT_FALSE(ran);
  EXPECT_EQ(held.use_count(), 1);
}

TEST(EventLoop, WorksWhileItSpins) {
  Pipe pipe;
  auto loop = make_loop();
  loop->set_spin_ns(2'000'000);
  std::binary_semaphore seen{0};
  Handler handler([&](uint32_t) { seen.release(); });
  EXPECT_TRUE(loop->add(pipe.read.get(), EPOLLIN, &handler).ok());
  ASSERT_TRUE(loop->start().ok());
  pipe.put();
  seen.acquire();
  on_loop(*loop, [] {});
}

// Finds its bytes by looking, never by being told.
class Looking : public EventLoop::Handler {
 public:
  explicit Looking(int fd) : fd_(fd) {}
  void on_events(uint32_t) override { poll(); }
  bool worth_polling() const override { return true; }
  bool poll() override {
    char byte = 0;
    if (::read(fd_, &byte, 1) != 1) return false;
    ++bytes;
    return true;
  }
  std::atomic<int> bytes{0};

 private:
  const int fd_;
};

TEST(EventLoop, AHandlerThatLooksForItselfGetsEverything) {
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
  const Fd in(fds[0]);
  const Fd out(fds[1]);
  auto loop = make_loop();
  loop->set_spin_ns(2'000'000);
  Looking handler(in.get());
  ASSERT_TRUE(loop->add(in.get(), EPOLLIN, &handler).ok());
  ASSERT_TRUE(loop->start().ok());
  for (int i = 1; i <= 500; ++i) {
    ASSERT_EQ(::write(out.get(), "x", 1), 1);
    const int64_t until_ns = now_ns() + 20'000 * kNsPerMs;
    while (handler.bytes.load() < i && now_ns() < until_ns) std::this_thread::yield();
    ASSERT_EQ(handler.bytes.load(), i);
  }
  loop->stop();
}

}  // namespace
}  // namespace te
