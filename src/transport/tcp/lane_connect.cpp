// How a lane connects, and is let in.
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>

#include "base/clock.h"
#include "base/log.h"
#include "transport/tcp/lane.h"
#include "transport/tcp/liveness.h"

namespace te::tcp {

Status Lane::lost(const Path& path, std::string_view why) {
  return error(Code::kUnavailable, "tcp to {}: {}", path.remote_address, why);
}

void Lane::connect(const SocketAddress& address, const wire::Hello& hello) {
  loop_.run([self = shared_from_this(), address, hello] {
    MutexLock lock(self->receiving_);
    const auto limit_ms = static_cast<int64_t>(self->options_.connect_timeout_ms);
    self->address_ = address;
    const auto bytes = hello.encode();
    self->hello_out_.assign(bytes.begin(), bytes.end());
    self->retry_.emplace(deadline_after_ms(now_ns(), limit_ms));
    self->loop_.run_after(limit_ms, [weak = self->weak_from_this()] {
      const std::shared_ptr<Lane> lane = weak.lock();
      if (!lane) return;
      MutexLock receiving(lane->receiving_);
      if (lane->phase_ > Phase::kHello) return;
      lane->broken(lane->refused_.ok()
                       ? lost(*lane->path_, wire::silence(lane->options_.connect_timeout_ms))
                       : lane->refused_);
    });
    self->start_connect();
  });
}

void Lane::start_connect() {
  if (phase_ >= Phase::kBroken) return;
  Result<Fd> fd = te::start_connect(address_);
  if (!fd.ok()) return retry_or_break(fd.status());
  fd_ = fd.take();
  watch_peer(fd_.get(), options_.stall_timeout_ms);
  if (Status status = loop_.add(fd_.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP, this); !status.ok()) {
    retry_or_break(status);
  }
}

void Lane::retry_or_break(Status why) {
  const bool connected = phase_ == Phase::kHello;
  const int64_t delay_ms = retry_->next_ms(why.code(), connected, now_ns());
  if (delay_ms < 0) return broken(std::move(why));
  if (fd_.valid()) loop_.remove(fd_.get(), this);
  fd_.reset();
  phase_ = Phase::kConnecting;
  hello_sent_ = 0;
  hangup_ = false;
  stream_.drop_buffered();
  refused_ = std::move(why);
  path_->set_error(refused_);  // for who runs out of time meanwhile
  loop_.run_after(delay_ms, [weak = weak_from_this()] {
    const std::shared_ptr<Lane> self = weak.lock();
    if (!self) return;
    MutexLock lock(self->receiving_);
    self->start_connect();
  });
}

void Lane::continue_hello() {
  if (!fd_.valid()) return;  // between two attempts
  if (phase_ == Phase::kConnecting) {
    if (const int failure = socket_error(fd_.get()); failure != 0) {
      return retry_or_break(lost(*path_, errno_text(failure)));
    }
    keep_in_cache(fd_.get());
    phase_ = Phase::kHello;
  }
  while (hello_sent_ < hello_out_.size()) {
    const ssize_t sent = ::send(fd_.get(), hello_out_.data() + hello_sent_,
                                hello_out_.size() - hello_sent_, MSG_NOSIGNAL);
    if (sent <= 0) {
      if (errno == EAGAIN || errno == EINTR || errno == ENOTCONN) return;
      break;  // a peer that closes at once may have said why
    }
    hello_sent_ += static_cast<size_t>(sent);
  }
  const Stream::Outcome outcome = stream_.receive(fd_.get());
  if (outcome == Stream::Outcome::kFailed) return retry_or_break(lost(*path_, errno_text(errno)));
  if (stream_.buffered().size() >= wire::HelloAnswer::kSize) {
    Result<wire::HelloAnswer> answer =
        wire::HelloAnswer::decode(stream_.buffered().first(wire::HelloAnswer::kSize));
    if (!answer.ok())
      return broken(answer.status().with_context("tcp to " + path_->remote_address));
    if (answer->code != Code::kOk) {
      return retry_or_break(wire::refusal(*answer, "tcp to " + path_->remote_address));
    }
    if (answer->window == 0) {
      return broken(error(Code::kUnavailable, "tcp to {}: the peer allows no request",
                          path_->remote_address));
    }
    stream_.consume(wire::HelloAnswer::kSize);
    window_.store(std::min(answer->window, kWindow));
    zero_copy_.enable(fd_.get(), options_.zero_copy, options_.zero_copy_totals);
    phase_ = Phase::kReady;
    descriptor_.store(fd_.get());
    blocked_.store(false);
    owner_.lane_ready(*this);
    return;
  }
  if (outcome == Stream::Outcome::kClosed) {
    retry_or_break(lost(*path_, "it closed the connection before it answered"));
  }
}

}  // namespace te::tcp
