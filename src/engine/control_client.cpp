#include "engine/control_client.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/log.h"
#include "core/descriptor.h"

namespace te {
namespace {

// A large description takes longer than an answer: this much more for each MiB that came.
constexpr int64_t kNsPerMiB = 100 * kNsPerMs;
constexpr size_t kReadStep = 64 << 10;
constexpr size_t kTurnBytes = 4 << 20;  // then others on the loop have their turn

std::array<char, wire::Hello::kSize> control_hello(uint64_t own_instance,
                                                   uint64_t target_instance) {
  wire::Hello hello;
  hello.kind = wire::ChannelKind::kControl;
  hello.instance = own_instance;
  hello.target_instance = target_instance;
  return hello.encode();
}

}  // namespace

void ControlClient::Registry::close_all(const Status& why) {
  while (!open_.empty()) {
    const std::shared_ptr<ControlClient> client = open_.begin()->second;
    client->close(why);
  }
}

ControlClient::ControlClient(EventLoop& loop, Registry& registry,
                             std::vector<SocketAddress> addresses, const Options& options,
                             Connected connected)
    : loop_(loop),
      registry_(registry),
      options_(options),
      timeout_ns_(options.timeout.count() * kNsPerMs),
      addresses_(std::move(addresses)),
      retry_(deadline_after_ms(now_ns(), options.timeout.count())),
      connected_(std::move(connected)) {}

std::shared_ptr<ControlClient> ControlClient::connect(EventLoop& loop, Registry& registry,
                                                      std::vector<SocketAddress> addresses,
                                                      const Options& options, Connected connected) {
  std::shared_ptr<ControlClient> client(
      new ControlClient(loop, registry, std::move(addresses), options, std::move(connected)));
  registry.open_.emplace(client.get(), client);
  client->try_next_address();
  return client;
}

Status ControlClient::lost(std::string_view why) const {
  return error(Code::kUnavailable, "{}: {}", address_.to_string(), why);
}

void ControlClient::try_next_address() {
  address_ = addresses_.at(next_address_++);
  phase_ = Phase::kConnecting;
  phase_since_ns_ = now_ns();
  Result<Fd> fd = start_connect(address_);
  if (!fd.ok()) return address_failed(fd.status());
  Result<tls::Connection> made =
      tls::Connection::make(fd.take(), options_.identity, tls::Role::kConnects);
  if (!made.ok()) return address_failed(made.status());
  connection_ = made.take();
  if (Status status = loop_.add(connection_.fd(), EPOLLIN | EPOLLOUT | EPOLLRDHUP, this);
      !status.ok()) {
    return address_failed(status);
  }
  arm(phase_since_ns_ + timeout_ns_);
}

void ControlClient::address_failed(const Status& why, bool lost_in_hello) {
  close_socket(false);
  retry_ms_ = std::max(retry_ms_, retry_.next_ms(why.code(), lost_in_hello, now_ns()));
  if (next_address_ < addresses_.size()) return try_next_address();
  if (retry_ms_ < 0) return close(why);
  phase_ = Phase::kConnecting;
  phase_since_ns_ = now_ns();
  next_address_ = 0;
  loop_.run_after(std::exchange(retry_ms_, -1), [weak = weak_from_this()] {
    const std::shared_ptr<ControlClient> self = weak.lock();
    if (self && self->phase_ == Phase::kConnecting) self->try_next_address();
  });
}

void ControlClient::close_socket(bool reset) {
  if (!connection_.valid()) return;
  loop_.remove(connection_.fd(), this);
  if (reset) {
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(connection_.fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  connection_.close();
}

void ControlClient::close(const Status& why) {
  if (phase_ == Phase::kClosed) return;
  const std::shared_ptr<ControlClient> self = shared_from_this();
  phase_ = Phase::kClosed;
  // Without a reset the kernel would go on sending what is given up here.
  close_socket(!pending_.empty());
  registry_.open_.erase(this);
  std::deque<Pending> pending;
  pending.swap(pending_);
  if (const Connected connected = std::exchange(connected_, nullptr)) connected(why);
  for (const Pending& call : pending) call.answered(why);
}

void ControlClient::on_events(uint32_t events) {
  const std::shared_ptr<ControlClient> self = shared_from_this();
  if (phase_ == Phase::kConnecting) {
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) == 0) return;
    if (const int failure = socket_error(connection_.fd()); failure != 0) {
      return address_failed(error(Code::kUnavailable, "cannot connect to {}: {}",
                                  address_.to_string(), errno_text(failure)));
    }
    start_hello();
  }
  if (phase_ == Phase::kClosed || phase_ == Phase::kConnecting) return;
  flush();
  if (phase_ != Phase::kClosed) receive();
}

void ControlClient::insecure() {
  const Status why = connection_.why().with_context(address_.to_string());
  if (phase_ == Phase::kHello) return address_failed(why, why.code() == Code::kUnavailable);
  close(why);
}

void ControlClient::start_hello() {
  const auto bytes = control_hello(options_.own_instance, options_.target_instance);
  out_.assign(bytes.data(), bytes.size());
  out_sent_ = 0;
  in_.clear();
  phase_ = Phase::kHello;
}

void ControlClient::finish_hello() {
  Result<wire::HelloAnswer> answer =
      wire::HelloAnswer::decode(as_bytes(in_).first(wire::HelloAnswer::kSize));
  if (!answer.ok()) return address_failed(answer.status().with_context(address_.to_string()));
  if (answer->code != Code::kOk) {
    return address_failed(wire::refusal(*answer, address_.to_string()));
  }
  in_.erase(0, wire::HelloAnswer::kSize);
  peer_instance_ = answer->instance;
  phase_ = Phase::kReady;
  if (const Connected connected = std::exchange(connected_, nullptr)) connected({});
}

void ControlClient::call(wire::ControlType type, std::string_view body, int64_t deadline_ns,
                         Answered answered) {
  if (phase_ != Phase::kReady) {
    return answered(lost("the control connection was lost"));
  }
  if (Status let_in = connection_.recheck(now_ns()); !let_in.ok()) {
    close(lost(let_in.message()));
    return answered(lost(let_in.message()));
  }
  if (pending_.size() >= kMaxPending || out_.size() - out_sent_ > kMaxUnsent) {
    return answered(error(Code::kBusy, "{}: {} calls wait for an answer: try again later",
                          address_.to_string(), pending_.size()));
  }
  wire::ControlHeader header;
  header.type = type;
  header.id = next_id_++;
  header.length = body.size();
  const auto head = header.encode();
  out_.append(head.data(), head.size()).append(body);
  if (pending_.empty()) phase_since_ns_ = now_ns();
  pending_.push_back({header.id, deadline_ns, std::move(answered)});
  arm(std::min(deadline_ns, answer_due_ns()));
  const std::shared_ptr<ControlClient> self = shared_from_this();
  flush();
}

void ControlClient::flush() {
  while (out_sent_ < out_.size()) {
    const ssize_t sent = connection_.send(std::string_view(out_).substr(out_sent_));
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      // What was sent is let go of now and then, or a peer that takes little would make it grow.
      if (out_sent_ > kReadStep) out_.erase(0, std::exchange(out_sent_, 0));
      return;
    }
    if (sent < 0 && errno == EPROTO) return insecure();
    // One that closes at once may have said why: receive() finds out.
    if (sent < 0 && phase_ == Phase::kHello) return;
    if (sent < 0) {
      return close(lost(fmt::format("connection lost while sending: {}", errno_text(errno))));
    }
    out_sent_ += static_cast<size_t>(sent);
  }
  out_.clear();
  out_sent_ = 0;
  if (out_.capacity() > kReadStep) out_.shrink_to_fit();
}

void ControlClient::receive() {
  for (size_t taken = 0;;) {
    const size_t at = in_.size();
    in_.resize(at + kReadStep);
    const ssize_t got = connection_.receive(in_.data() + at, kReadStep);
    const int failure = errno;
    in_.resize(at + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && failure == EINTR) continue;
    if (got < 0 && (failure == EAGAIN || failure == EWOULDBLOCK)) break;
    if (got < 0 && failure == EPROTO) return insecure();
    if (got <= 0) {
      const std::string what = got == 0 ? std::string("the peer closed the connection")
                                        : "connection lost: " + errno_text(failure);
      if (phase_ != Phase::kHello) return close(lost(what));
      return address_failed(
          error(Code::kUnavailable, "{}: {} without a hello{}", address_.to_string(), what,
                options_.target_instance == 0 ? "; is a transfer engine listening there?" : ""),
          true);
    }
    taken += static_cast<size_t>(got);
    if (!parse()) return;
    if (taken < kTurnBytes) continue;
    loop_.again(this);
    break;
  }
  if (in_.empty() && in_.capacity() > kReadStep) in_.shrink_to_fit();
}

bool ControlClient::parse() {
  if (phase_ == Phase::kHello) {
    if (in_.size() < wire::HelloAnswer::kSize) return true;
    const int before = connection_.fd();
    finish_hello();
    if (phase_ == Phase::kClosed || connection_.fd() != before || phase_ == Phase::kConnecting) {
      return false;
    }
  }
  while (in_.size() >= wire::ControlHeader::kSize) {
    Result<wire::ControlHeader> header =
        wire::ControlHeader::decode(as_bytes(in_).first(wire::ControlHeader::kSize));
    const bool understood = header.ok() && header->type == wire::ControlType::kAnswer &&
                            !pending_.empty() && header->id == pending_.front().id &&
                            header->length <= Descriptor::kMaxBytes;
    if (!understood) {
      close(error(Code::kProtocol, "{}: the peer's answer cannot be understood",
                  address_.to_string()));
      return false;
    }
    const size_t whole = wire::ControlHeader::kSize + header->length;
    if (in_.size() < whole) {
      arm(answer_due_ns());
      return true;
    }
    Bytes body;
    if (in_.size() == whole) {
      body = std::move(in_);
      body.erase(0, wire::ControlHeader::kSize);
      in_.clear();
    } else {
      body = in_.substr(wire::ControlHeader::kSize, header->length);
      in_.erase(0, whole);
    }
    const Answered answered = std::move(pending_.front().answered);
    pending_.pop_front();
    phase_since_ns_ = now_ns();
    if (header->code == Code::kOk) {
      answered(std::move(body));
    } else {
      answered(Status(header->code, body).with_context(address_.to_string()));
    }
    if (phase_ == Phase::kClosed) return false;
  }
  return true;
}

int64_t ControlClient::answer_due_ns() const {
  return phase_since_ns_ + timeout_ns_ + static_cast<int64_t>(in_.size() >> 20) * kNsPerMiB;
}

void ControlClient::arm(int64_t at_ns) {
  // A look that comes sooner sees to the later ones.
  if (at_ns >= armed_at_ns_) return;
  armed_at_ns_ = at_ns;
  const int64_t left_ms = std::max<int64_t>(at_ns - now_ns(), 0) / kNsPerMs + 1;
  loop_.run_after(left_ms, [weak = weak_from_this()] {
    if (const std::shared_ptr<ControlClient> self = weak.lock()) self->check_time();
  });
}

void ControlClient::check_time() {
  armed_at_ns_ = kNever;
  if (phase_ == Phase::kClosed) return;
  const int64_t now = now_ns();
  if (phase_ != Phase::kReady) {
    if (now < phase_since_ns_ + timeout_ns_) return arm(phase_since_ns_ + timeout_ns_);
    // Whoever accepts and stays silent is as good as nobody.
    if (phase_ == Phase::kConnecting) {
      return address_failed(
          error(Code::kUnavailable, "cannot connect to {}: {}", address_.to_string(), silence()));
    }
    return address_failed(
        error(Code::kUnavailable, "{}: connected, but {}: {}", address_.to_string(), silence(),
              options_.target_instance == 0
                  ? "either no transfer engine listens there, or it is stopped or overloaded"
                  : "the engine there is stopped or overloaded"));
  }
  if (pending_.empty()) return;
  int64_t next = answer_due_ns();
  for (const Pending& call : pending_) next = std::min(next, call.deadline_ns);
  if (now < next) return arm(next);
  // What was asked first, or this very call: the answers that are still to come count for nothing.
  const auto overdue = std::find_if(pending_.begin(), pending_.end(),
                                    [now](const Pending& call) { return call.deadline_ns <= now; });
  if (overdue != pending_.end()) {
    const Answered answered = std::move(overdue->answered);
    overdue->answered = [](const Result<Bytes>&) {};
    answered(error(Code::kTimeout, "no answer from {} before the deadline", address_.to_string()));
  }
  close(lost(silence()));
}

std::string ControlClient::silence() const {
  return wire::silence(static_cast<uint64_t>(options_.timeout.count()));
}

namespace {

// Sends the hello and takes the answer.
Status exchange_hellos(tls::Connection& connection, std::string_view hello, std::span<char> answer,
                       int64_t deadline_ns) {
  while (!answer.empty()) {
    ssize_t done = 0;
    if (!hello.empty()) {
      done = connection.send(hello);
      if (done > 0) hello.remove_prefix(static_cast<size_t>(done));
      // One that closes at once may have said why, so its answer is looked for all the same.
      if (done < 0 && errno != EAGAIN && errno != EINTR && errno != EPROTO) hello = {};
    } else {
      done = connection.receive(answer.data(), answer.size());
      if (done == 0) return Status(Code::kUnavailable, "the peer closed the connection");
      if (done > 0) answer = answer.subspan(static_cast<size_t>(done));
    }
    if (done >= 0 || errno == EINTR) continue;
    if (errno == EPROTO) return connection.why();
    if (errno != EAGAIN) {
      return error(Code::kUnavailable, "connection lost: {}", errno_text(errno));
    }
    const short wanted = !connection.ready() ? connection.wanted_events()
                         : hello.empty()     ? POLLIN
                                             : POLLOUT;
    TE_RETURN_IF_ERROR(wait_for(connection.fd(), wanted, deadline_ns));
  }
  return {};
}

}  // namespace

Result<uint64_t> greet(const Locator& locator, uint64_t own_instance,
                       std::chrono::milliseconds timeout,
                       const std::shared_ptr<tls::Identity>& identity) {
  Result<std::vector<SocketAddress>> addresses = resolve_host(locator.host, locator.port);
  if (!addresses.ok()) return addresses.status();
  Status last;
  for (const SocketAddress& address : *addresses) {
    const int64_t deadline = deadline_after_ms(now_ns(), timeout.count());
    Result<BlockingStream> stream = BlockingStream::connect(address, deadline);
    last = stream.status();
    if (!last.ok()) continue;
    Result<tls::Connection> connection =
        tls::Connection::make((*stream).release(), identity, tls::Role::kConnects);
    last = connection.status();
    if (!last.ok()) continue;
    const auto hello = control_hello(own_instance, locator.instance);
    std::array<char, wire::HelloAnswer::kSize> bytes;
    last = exchange_hellos(*connection, {hello.data(), hello.size()}, bytes, deadline);
    if (!last.ok()) {
      const Code code = last.code() == Code::kPermission ? last.code() : Code::kUnavailable;
      last = error(code, "{}: {}", address.to_string(), last.message());
      continue;
    }
    Result<wire::HelloAnswer> answer =
        wire::HelloAnswer::decode(as_bytes({bytes.data(), bytes.size()}));
    last = answer.status();
    if (last.ok() && answer->code != Code::kOk) {
      last = wire::refusal(*answer, address.to_string());
    }
    if (last.ok()) return answer->instance;
  }
  return last;
}

}  // namespace te
