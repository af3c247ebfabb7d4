#include "transport/tcp/lane.h"

#include <sys/socket.h>

#include <cerrno>

#include "base/clock.h"
#include "base/log.h"
#include "transport/tcp/liveness.h"

namespace te::tcp {
namespace {

// Packets of a connection that ended may wait in a queue of the kernel, and hold memory that was
// sent without a copy: it is waited for, this long at most.
constexpr int64_t kQuietMs = 2000;
constexpr int64_t kQuietCheckMs = 1;
// How often the kernel may send the same again, with twice the pause each time, without being
// heard: some 3 s.
constexpr unsigned kUnheard = 4;

}  // namespace

Lane::Lane(EventLoop& loop, TransportHost& host, std::shared_ptr<Path> path, LaneOwner& owner,
           const LaneOptions& options)
    : loop_(loop),
      path_(std::move(path)),
      owner_(owner),
      options_(options),
      requests_(host),
      sender_(requests_, zero_copy_, owner, [this] { resolve_fault(); }),
      connector_(*path_),
      receiver_(requests_, sender_, zero_copy_) {}

Status Lane::lost(std::string_view why) const {
  return error(Code::kUnavailable, "tcp to {}: {}", path_->remote_address, why);
}

void Lane::connect(const SocketAddress& address, const wire::Hello& hello) {
  loop_.run([self = shared_from_this(), address, hello] {
    MutexLock lock(self->receiving_);
    const auto limit_ms = static_cast<int64_t>(self->options_.connect_timeout_ms);
    self->connector_.begin(address, hello, deadline_after_ms(now_ns(), limit_ms));
    self->loop_.run_after(limit_ms, [weak = self->weak_from_this()] {
      if (const std::shared_ptr<Lane> lane = weak.lock()) lane->connect_timed_out();
    });
    self->start_connect();
  });
}

void Lane::connect_timed_out() {
  MutexLock lock(receiving_);
  if (phase_ != Phase::kConnecting) return;
  const Status& why = connector_.why();
  broken(why.ok() ? lost(wire::silence(options_.connect_timeout_ms)) : why);
}

void Lane::start_connect() {
  if (phase_ >= Phase::kBroken) return;
  Result<Fd> fd = connector_.attempt();
  if (!fd.ok()) return retry_or_break(fd.status());
  watch_peer((*fd).get(), options_.stall_timeout_ms);
  Result<tls::Connection> made =
      tls::Connection::make(fd.take(), options_.identity, tls::Role::kConnects);
  if (!made.ok()) return retry_or_break(made.status());
  connection_ = made.take();
  if (Status status = loop_.add(connection_.fd(), EPOLLIN | EPOLLOUT | EPOLLRDHUP, this);
      !status.ok()) {
    retry_or_break(std::move(status));
  }
}

void Lane::retry_or_break(Status why) {
  const int64_t delay_ms = connector_.retry_ms(why, now_ns());
  if (delay_ms < 0) return broken(std::move(why));
  if (connection_.valid()) loop_.remove(connection_.fd(), this);
  connection_.close();
  hangup_ = false;
  receiver_.stream().drop_buffered();
  path_->set_error(std::move(why));  // for who runs out of time meanwhile
  loop_.run_after(delay_ms, [weak = weak_from_this()] {
    const std::shared_ptr<Lane> self = weak.lock();
    if (!self) return;
    MutexLock lock(self->receiving_);
    self->start_connect();
  });
}

void Lane::continue_connecting() {
  if (!connection_.valid()) return;  // between two attempts
  switch (connector_.advance(connection_, receiver_.stream())) {
    case LaneConnector::Step::kWaiting:
      return;
    case LaneConnector::Step::kLetIn:
      return let_in();
    case LaneConnector::Step::kLost:
      return retry_or_break(connector_.why());
    case LaneConnector::Step::kRefused:
      return broken(connector_.why());
  }
}

void Lane::let_in() {
  requests_.set_limit(connector_.window());
  zero_copy_.enable(connection_.fd(),
                    connection_.secure() ? ZeroCopyMode::kOff : options_.zero_copy,
                    options_.zero_copy_totals);
  phase_ = Phase::kReady;
  descriptor_.store(connection_.fd());
  receiver_.start(connection_);
  sender_.start(connection_);
  owner_.lane_ready(*this);
}

void Lane::on_events(uint32_t events) {
  const std::shared_ptr<Lane> self = shared_from_this();
  bool greeted = false;
  {
    MutexLock lock(receiving_);
    if (phase_ >= Phase::kBroken) return;
    // Notifications raise EPOLLERR too; where it means an error, another of them comes with it.
    if ((events & EPOLLERR) != 0 && !zero_copy_.enabled()) hangup_ = true;
    if ((events & (EPOLLRDHUP | EPOLLHUP)) != 0) hangup_ = true;
    if (phase_ == Phase::kConnecting) {
      const bool settled = (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
      if (!connector_.connected() && !settled) return;
      continue_connecting();
      if (phase_ != Phase::kReady) return;
      greeted = true;
    }
  }
  if ((events & EPOLLOUT) != 0) room();
  // Room alone says nothing of answers, which a caller may be taking.
  if (events == EPOLLOUT && !greeted) return;
  const uint64_t head = requests_.head();
  {
    MutexLock lock(receiving_);
    if (phase_ == Phase::kReady && receive()) loop_.again(this);
  }
  // Room in the window: what waited for it can go.
  if (requests_.head() != head) continue_sending();
}

bool Lane::receive() {
  switch (receiver_.receive(hangup_)) {
    case LaneReceiver::Outcome::kDrained:
      return false;
    case LaneReceiver::Outcome::kMore:
      return true;
    case LaneReceiver::Outcome::kClosed:
      broken(lost("the peer closed the connection"));
      return false;
    case LaneReceiver::Outcome::kFailed:
      broken(lost(connection_.text_of(errno)));
      return false;
    case LaneReceiver::Outcome::kMisunderstood:
      broken(lost("the peer answered what was not asked"));
      return false;
  }
  return false;
}

bool Lane::take_answers() {
  if (!receiving_.try_lock()) return false;
  const uint64_t head = requests_.head();
  const uint64_t before = requests_.answered();
  if (phase_ == Phase::kReady) receive();
  const bool news = requests_.answered() != before || phase_ != Phase::kReady;
  receiving_.unlock();
  if (requests_.head() != head) continue_sending();
  return news;
}

void Lane::flush_later() {
  loop_.run([self = shared_from_this()] { self->flush(); });
}

void Lane::listen_for(uint32_t events) {
  MutexLock lock(receiving_);
  if (phase_ != Phase::kReady) return;
  loop_.change(connection_.fd(), EPOLLRDHUP | events, this);
}

void Lane::resolve_fault() {
  loop_.run([self = shared_from_this()] {
    {
      MutexLock lock(self->receiving_);
      if (self->phase_ != Phase::kReady) return;
      if (self->sender_.resolve_fault()) {
        self->receiver_.tail_moved_back();
      } else {
        // Whatever has no part in it is repeated in the next session.
        self->owner_.found_unreadable();
        self->broken(self->lost("the memory of a WRITE under way cannot be read"));
      }
    }
    self->room();
  });
}

void Lane::sweep() {
  loop_.run([self = shared_from_this()] {
    MutexLock lock(self->receiving_);
    if (self->phase_ != Phase::kReady) return;
    self->requests_.return_cancelled();
    if (!self->receiver_.sweep()) {
      self->broken(self->lost("a WRITE under way was given up, so the connection is ended"));
    }
  });
}

void Lane::check_alive() {
  loop_.run([self = shared_from_this()] {
    MutexLock lock(self->receiving_);
    if (self->phase_ != Phase::kReady) return;
    const Status let_in = self->connection_.recheck(now_ns());
    if (!let_in.ok()) return self->broken(self->lost(let_in.message()));
    if (!unheard(self->connection_.fd(), kUnheard)) return;
    self->broken(self->lost("the peer's machine does not acknowledge anything any more"));
  });
}

void Lane::broken(Status why) {
  // Nothing that the peer still sends counts from here on.
  if (phase_ >= Phase::kBroken) return;
  phase_ = Phase::kBroken;
  owner_.lane_broken(*this, std::move(why));
}

void Lane::fail(Code code) {
  if (end_.handed_over.exchange(true)) return;
  end_.lane = shared_from_this();
  end_.code = code;
  // A loop that has ended takes nothing; then nothing is under way any more.
  if (!loop_.run(end_)) end_.lane.reset();
}

void Lane::End::run() {
  const std::shared_ptr<Lane> self = std::move(lane);
  MutexLock lock(self->receiving_);
  self->close(code);
}

void Lane::close(Code code) {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  if (connection_.valid()) loop_.remove(connection_.fd(), this);
  sender_.stop();
  // Wakes the caller that sleeps on it.
  descriptor_.store(-1);
  if (connection_.valid()) ::shutdown(connection_.fd(), SHUT_RDWR);
  if (zero_copy_.outstanding()) {
    // Closed, it would send from that memory until all is acknowledged, and tell nobody. So what is
    // not acknowledged is thrown away, by a reset.
    const sockaddr none{.sa_family = AF_UNSPEC, .sa_data = {}};
    (void)::connect(connection_.fd(), &none, sizeof none);
  }
  close_when_quiet(code, deadline_after_ms(now_ns(), kQuietMs));
}

void Lane::close_when_quiet(Code code, int64_t until_ns) {
  const bool quiet = zero_copy_.quiet(connection_.fd());
  if (!quiet && now_ns() < until_ns) {
    loop_.run_after(kQuietCheckMs, [self = shared_from_this(), code, until_ns] {
      MutexLock lock(self->receiving_);
      self->close_when_quiet(code, until_ns);
    });
    return;
  }
  if (!quiet) {
    static LogLimit limit;
    log_limited(
        limit, LogLevel::kWarning,
        "tcp to {}: the connection ended {} ms ago, but packets of it still wait to be sent; they "
        "may carry what their memory is used for next, in place of WRITEs that were given up",
        path_->remote_address, kQuietMs);
  }
  connection_.close();
  requests_.return_all(code);
  zero_copy_.close();
}

}  // namespace te::tcp
