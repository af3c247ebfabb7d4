#include "engine/shutdown.h"

#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/fork.h"
#include "base/mutex.h"
#include "base/thread.h"

namespace te {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM};

struct State {
  Mutex mutex;
  CondVar changed;
  std::map<const void*, std::function<void()>> engines TE_GUARDED_BY(mutex);
  std::set<const void*> busy TE_GUARDED_BY(mutex);  // being withdrawn
  Thread watcher TE_GUARDED_BY(mutex);
  bool ending TE_GUARDED_BY(mutex) = false;  // the watcher, which is waited for
};

// Replaced in a forked child. Never destroyed: signals come until the end.
std::atomic<State*> current_state{nullptr};
State& state() { return *current_state.load(); }

// What the handler may touch.
sem_t wake;
std::atomic<pid_t> watched{0};  // the process that has a watcher
std::atomic<int> signalled{0};
std::atomic<int> in_handler{0};
int timer_mark;

void set_default(int number) {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  ::sigaction(number, &action, nullptr);
}

// As if nobody had handled the signal. Safe in a handler, at whose end it is delivered.
void die_of(int number) {
  set_default(number);
  ::kill(::getpid(), number);
}

void on_signal(int number, siginfo_t* info, void*) {
  const int saved = errno;
  in_handler.fetch_add(1);
  const bool too_late = info->si_code == SI_TIMER && info->si_value.sival_ptr == &timer_mark;
  if (too_late || watched.load() != ::getpid()) {
    die_of(number);
  } else {
    signalled.store(number);
    ::sem_post(&wake);
  }
  in_handler.fetch_sub(1);
  errno = saved;
}

bool is_ours(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == on_signal;
}

// Only where the default, which we replace, is what the application wants.
void install_handlers() {
  for (const int number : kSignals) {
    struct sigaction present {};
    ::sigaction(number, nullptr, &present);
    if ((present.sa_flags & SA_SIGINFO) != 0 || present.sa_handler != SIG_DFL) continue;
    struct sigaction action {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_RESTART | SA_SIGINFO;
    ::sigaction(number, &action, nullptr);
  }
}

void remove_handlers() {
  for (const int number : kSignals) {
    struct sigaction present {};
    ::sigaction(number, nullptr, &present);
    if (is_ours(present)) set_default(number);
  }
}

void withdraw_one(State& known, const void* key, const std::function<void()>& withdraw) {
  run_guarded(withdraw);
  MutexLock lock(known.mutex);
  known.busy.erase(key);
  known.changed.notify_all();
}

// All at once; one whose thread cannot be made after the others. Those that are not done in time go
// on while the process ends.
void withdraw_all() {
  State& known = state();
  std::map<const void*, std::function<void()>> engines;
  {
    MutexLock lock(known.mutex);
    engines.swap(known.engines);
    for (const auto& [key, withdraw] : engines) known.busy.insert(key);
  }
  const int64_t until = now_ns() + kWithdrawMs * kNsPerMs;
  std::vector<const void*> left;
  for (const auto& [key, withdraw] : engines) {
    Result<Thread> thread = Thread::start("te-withdraw", [&known, key = key, withdraw = withdraw] {
      withdraw_one(known, key, withdraw);
    });
    if (thread.ok()) {
      thread->detach();
    } else {
      left.push_back(key);
    }
  }
  for (const void* key : left) withdraw_one(known, key, engines.at(key));
  MutexLock lock(known.mutex);
  while (!known.busy.empty() && now_ns() < until) {
    known.changed.wait_until(known.mutex, to_time_point(until));
  }
}

// The kernel ends the process when the time is over, whatever this thread does then.
void limit_time(int number) {
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = number;
  event.sigev_value.sival_ptr = &timer_mark;
  timer_t timer{};
  if (::timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) return;
  itimerspec when{};
  constexpr int64_t kLateMs = kWithdrawMs + 200;
  when.it_value = {kLateMs / 1000, kLateMs % 1000 * kNsPerMs};
  ::timer_settime(timer, 0, &when, nullptr);
}

// Handlers may do next to nothing, so a thread does the rest.
void watch() {
  for (;;) {
    while (::sem_wait(&wake) != 0) {
    }
    const int number = signalled.exchange(0);
    if (number == 0) return;
    sigset_t one;
    ::sigemptyset(&one);
    ::sigaddset(&one, number);
    ::pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
    limit_time(number);
    withdraw_all();
    die_of(number);
  }
}

void withdraw_at_exit() {
  if (current_state.load() != nullptr) withdraw_all();
}

State* make_state() {
  auto* made = new State;
  hold_during_forks(made->mutex);
  ::sem_init(&wake, 0, 0);
  return made;
}

// The engines are the parent's, and so is the watcher.
void forget_in_child() {
  remove_handlers();
  signalled.store(0);
  in_handler.store(0);
  watched.store(0);
  current_state.store(make_state());
}

State& state_for_good() {
  watch_forks();
  const NoFork no_fork;
  static const bool made = [] {
    current_state.store(make_state());
    call_in_children(forget_in_child);
    return std::atexit(withdraw_at_exit) == 0;
  }();
  (void)made;
  return state();
}

}  // namespace

Status enable_graceful_shutdown(const void* key, std::function<void()> withdraw) {
  State& known = state_for_good();
  MutexLock lock(known.mutex);
  while (known.ending) known.changed.wait(known.mutex);
  if (!known.watcher.joinable()) {
    Result<Thread> watcher = Thread::start("te-signals", watch);
    if (!watcher.ok()) return watcher.status();
    known.watcher = watcher.take();
    watched.store(::getpid());
  }
  known.engines[key] = std::move(withdraw);
  install_handlers();
  return {};
}

void disable_graceful_shutdown(const void* key) {
  if (current_state.load() == nullptr) return;
  State& known = state();
  Thread watcher;
  {
    MutexLock lock(known.mutex);
    known.engines.erase(key);
    while (known.busy.contains(key)) known.changed.wait(known.mutex);
    if (!known.engines.empty() || known.ending || !known.watcher.joinable()) return;
    known.ending = true;
    watcher = std::move(known.watcher);
  }
  remove_handlers();
  watched.store(0);
  while (in_handler.load() != 0) std::this_thread::yield();  // in other threads
  ::sem_post(&wake);
  watcher.join();  // or, where a signal came first, the end of the process
  MutexLock lock(known.mutex);
  known.ending = false;
  known.changed.notify_all();
}

}  // namespace te
