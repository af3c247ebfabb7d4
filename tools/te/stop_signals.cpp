#include "stop_signals.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <system_error>

namespace te::tool {
namespace {

std::atomic<int> received{0};
std::atomic<int> event_fd{-1};

void on_stop_signal(int signal) {
  const int saved_errno = errno;
  int none = 0;
  if (received.compare_exchange_strong(none, signal)) {
    const uint64_t one = 1;
    // The counter of a fresh eventfd takes this write at once; there is no one to tell if it did
    // not.
    if (write(event_fd.load(), &one, sizeof one) != static_cast<ssize_t>(sizeof one)) _exit(1);
  } else {
    std::signal(signal, SIG_DFL);
    raise(signal);
  }
  errno = saved_errno;
}

}  // namespace

void catch_stop_signals() {
  const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  event_fd = fd;
  struct sigaction action = {};
  action.sa_handler = on_stop_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int stop_signal() { return received.load(std::memory_order_relaxed); }

int stop_signal_fd() { return event_fd.load(); }

}  // namespace te::tool
