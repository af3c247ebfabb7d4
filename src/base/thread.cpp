#include "base/thread.h"

#include <atomic>
#include <cassert>
#include <csignal>
#include <memory>
#include <thread>

#include "base/clock.h"
#include "base/fd.h"

namespace te {
namespace {

// A thread that blocks what its own instructions raise is killed without the handler; a profiler
// wants to see all threads.
constexpr int kNotBlocked[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGPROF};
constexpr size_t kMostName = 15;
constexpr int kPauseMs = 10;
constexpr int64_t kSaidAgainNs = 1'000'000'000;

struct Start {
  std::string name;
  std::function<void()> body;
};

void* run(void* argument) {
  const std::unique_ptr<Start> start(static_cast<Start*>(argument));
  ::pthread_setname_np(::pthread_self(), start->name.c_str());
  while (!run_guarded(start->body)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(kPauseMs));  // memory may come back
  }
  return nullptr;
}

}  // namespace

Result<Thread> Thread::start(std::string_view name, std::function<void()> body) {
  auto start =
      std::make_unique<Start>(Start{std::string(name.substr(0, kMostName)), std::move(body)});
  sigset_t blocked, before;
  ::sigfillset(&blocked);
  for (const int number : kNotBlocked) ::sigdelset(&blocked, number);
  // The new thread inherits the mask.
  ::pthread_sigmask(SIG_SETMASK, &blocked, &before);
  pthread_t handle{};
  const int failure = ::pthread_create(&handle, nullptr, run, start.get());
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (failure != 0) {
    return error(Code::kResource,
                 "cannot start the thread {}: {}; see ulimit -u, ulimit -v and the pids limit of "
                 "the container",
                 start->name, errno_text(failure));
  }
  (void)start.release();  // the thread's
  return Thread(handle);
}

Thread& Thread::operator=(Thread&& other) noexcept {
  assert(!joinable_);
  handle_ = other.handle_;
  joinable_ = std::exchange(other.joinable_, false);
  return *this;
}

Thread::~Thread() { assert(!joinable_); }

void Thread::join() {
  if (std::exchange(joinable_, false)) ::pthread_join(handle_, nullptr);
}

void Thread::detach() {
  if (std::exchange(joinable_, false)) ::pthread_detach(handle_);
}

void log_work_failed(const char* why) noexcept {
  static std::atomic<int64_t> said_at_ns{-kSaidAgainNs};
  const int64_t now = now_ns();
  int64_t before = said_at_ns.load(std::memory_order_relaxed);
  if (now - before < kSaidAgainNs || !said_at_ns.compare_exchange_strong(before, now)) return;
  char name[16] = "?";
  ::pthread_getname_np(::pthread_self(), name, sizeof name);
  try {
    log_error("the thread {} could not do a part of its work: {}", name, why);
  } catch (const std::exception&) {
    // Even the text takes memory.
  }
}

}  // namespace te
