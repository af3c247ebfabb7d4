#include "base/acceptor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"

namespace te {
namespace {

constexpr int kPerTurn = 64;  // then other handlers of the loop have their turn
constexpr int64_t kFirstPauseMs = 10;
constexpr int64_t kLongestPauseMs = 1'000;

bool connection_waits(int listening) {
  pollfd entry{listening, POLLIN, 0};
  return ::poll(&entry, 1, 0) == 1 && (entry.revents & POLLIN) != 0;
}

Fd accept_next(int listening) {
  return Fd::open(
      [=] { return ::accept4(listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); });
}

}  // namespace

Status Acceptor::start(Fd listening) {
  listening_ = std::move(listening);
  take_reserve();
  return loop_.add(listening_.get(), EPOLLIN, this);
}

void Acceptor::close() {
  listening_.reset();
  reserve_.reset();
}

void Acceptor::on_events(uint32_t) {
  if (paused_) return;
  for (int i = 0; i < kPerTurn; ++i) {
    if (!owner_.has_room() || !accept_one()) return;
  }
  loop_.again(this);
}

bool Acceptor::accept_one() {
  Fd connection = accept_next(listening_.get());
  if (connection.valid()) {
    pause_ms_ = 0;
    if (!reserve_.valid()) take_reserve();
    owner_.accepted(std::move(connection));
    return true;
  }
  const int failure = errno;
  if (failure == EAGAIN || failure == EWOULDBLOCK || failure == EINVAL || failure == EBADF) {
    return false;
  }
  // The error of one connection, which is gone: see accept(2).
  if (!is_shortage(failure)) return true;
  // A lack of descriptors is also told when no connection waits for one.
  if (!connection_waits(listening_.get())) return false;
  static LogLimit limit;
  log_limited(limit, LogLevel::kWarning, "{}: a new connection cannot be taken: {}", what_,
              errno_text(failure));
  if ((failure == EMFILE || failure == ENFILE) && refuse_one()) return true;
  pause();
  return false;
}

bool Acceptor::refuse_one() {
  if (!reserve_.valid()) return take_reserve();
  reserve_.reset();
  bool refused = false;
  if (Fd connection = accept_next(listening_.get()); connection.valid()) {
    owner_.refuse(std::move(connection));
    refused = true;
  }
  return take_reserve() && refused;
}

bool Acceptor::take_reserve() {
  if (!reserve_.valid()) reserve_ = Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  return reserve_.valid();
}

void Acceptor::pause() {
  paused_ = true;
  pause_ms_ = std::clamp(pause_ms_ * 2, kFirstPauseMs, kLongestPauseMs);
  loop_.run_after(pause_ms_, [this] {
    paused_ = false;
    take_reserve();
    loop_.again(this);
  });
}

}  // namespace te
