#include "engine/shutdown.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <map>
#include <utility>

#include "base/fd.h"
#include "base/mutex.h"
#include "base/thread.h"

namespace te {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM};

struct State {
  Mutex mutex;
  std::map<const void*, std::function<void()>> engines TE_GUARDED_BY(mutex);
  bool installed TE_GUARDED_BY(mutex) = false;
  struct sigaction previous[2];
};

// Never destroyed: signals come until the end.
State& state() {
  static State* instance = new State;
  return *instance;
}

int wake_pipe[2] = {-1, -1};

void on_signal(int number) {
  const int saved = errno;
  const auto byte = static_cast<unsigned char>(number);
  (void)!::write(wake_pipe[1], &byte, 1);
  errno = saved;
}

// Handlers may do next to nothing, so a thread does the rest.
void watch() {
  unsigned char number = 0;
  for (;;) {
    const ssize_t got = ::read(wake_pipe[0], &number, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    {
      MutexLock lock(state().mutex);
      for (const auto& [key, withdraw] : state().engines) withdraw();
      state().engines.clear();
    }
    // The handlers there were before us come into force again, and see the signal themselves.
    for (size_t i = 0; i < std::size(kSignals); ++i) {
      ::sigaction(kSignals[i], &state().previous[i], nullptr);
    }
    {
      MutexLock lock(state().mutex);
      state().installed = false;
    }
    ::kill(::getpid(), number);
  }
}

}  // namespace

Status enable_graceful_shutdown(const void* key, std::function<void()> withdraw) {
  MutexLock lock(state().mutex);
  state().engines[key] = std::move(withdraw);
  if (state().installed) return {};
  if (wake_pipe[0] < 0) {
    if (::pipe2(wake_pipe, O_CLOEXEC) != 0) {
      return error(Code::kResource, "cannot make a pipe: {}; see ulimit -n", errno_text(errno));
    }
    Result<Thread> watcher = Thread::start("te-signals", watch);
    if (!watcher.ok()) {
      for (int& end : wake_pipe) ::close(std::exchange(end, -1));
      return watcher.status();
    }
    watcher->detach();
  }
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < std::size(kSignals); ++i) {
    ::sigaction(kSignals[i], &action, &state().previous[i]);
  }
  state().installed = true;
  return {};
}

void disable_graceful_shutdown(const void* key) {
  MutexLock lock(state().mutex);
  state().engines.erase(key);
}

}  // namespace te
