#include "engine/control_server.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>

#include "base/clock.h"
#include "base/log.h"

namespace te {
namespace {

constexpr int64_t kCheckMs = 250;
constexpr int64_t kIdleMs = 1'000;  // then a connection may have to make place for another
constexpr size_t kReadStep = 16 << 10;

// Whether the other side closed or reset the connection, be there bytes to read or not.
bool has_ended(int fd) {
  pollfd entry{fd, POLLRDHUP, 0};
  return ::poll(&entry, 1, 0) > 0;
}

}  // namespace

// The connections that are served, for each network. Any thread.
class ControlServer::Inbound {
 public:
  size_t total() const {
    MutexLock lock(mutex_);
    return total_;
  }
  size_t of(const Newcomers::Network& network) const {
    MutexLock lock(mutex_);
    const auto found = counts_.find(network);
    return found == counts_.end() ? 0 : found->second;
  }
  // Counts one as long as the answer lives.
  static std::shared_ptr<void> permit(const std::shared_ptr<Inbound>& inbound,
                                      const Newcomers::Network& network) {
    {
      MutexLock lock(inbound->mutex_);
      ++inbound->counts_[network];
      ++inbound->total_;
    }
    return std::shared_ptr<void>(nullptr, [inbound, network](void*) {
      MutexLock lock(inbound->mutex_);
      const auto found = inbound->counts_.find(network);
      if (--found->second == 0) inbound->counts_.erase(found);
      --inbound->total_;
    });
  }

 private:
  mutable Mutex mutex_;
  std::map<Newcomers::Network, size_t> counts_ TE_GUARDED_BY(mutex_);
  size_t total_ TE_GUARDED_BY(mutex_) = 0;
};

// A connection of the control channel: one request after the other.
class ControlServer::Caller final : public EventLoop::Handler {
 public:
  Caller(ControlServer& server, Fd fd, const Newcomers::Network& from, std::shared_ptr<void> permit)
      : network(from),
        server_(server),
        fd_(std::move(fd)),
        permit_(std::move(permit)),
        progress_ns_(now_ns()) {}

  void on_events(uint32_t) override {
    if (!flush() || !receive()) server_.drop(*this);
  }
  void answer(std::string head, std::shared_ptr<const Bytes> body = nullptr) {
    out_head_ = std::move(head);
    out_body_ = std::move(body);
    out_sent_ = 0;
  }
  bool flush();
  bool stalled(int64_t before_ns) const {
    return !waiting_ && (!in_.empty() || !out_head_.empty()) && progress_ns_ < before_ns;
  }
  // Nothing is under way. When something was last.
  bool idle() const { return !waiting_ && in_.empty() && out_head_.empty(); }
  int64_t progress_ns() const { return progress_ns_; }
  int fd() const { return fd_.get(); }

  const Newcomers::Network network;

 private:
  bool receive();  // false: of no use any more
  bool handle_all();
  void handle(const wire::ControlHeader& request, std::string_view body);
  Status start_exchange(uint64_t id, std::string_view body);
  void answer_request(uint64_t id, const Status& status, std::shared_ptr<const Bytes> body);
  size_t out_size() const { return out_head_.size() + (out_body_ ? out_body_->size() : 0); }

  ControlServer& server_;
  Fd fd_;
  const std::shared_ptr<void> permit_;
  int64_t progress_ns_;
  Bytes in_;
  std::string out_head_;
  std::shared_ptr<const Bytes> out_body_;
  size_t out_sent_ = 0;
  bool waiting_ = false;  // another thread works on the answer
  // Tells this caller from a later one at the same address.
  const std::shared_ptr<const bool> alive_{std::make_shared<const bool>(true)};
};

bool ControlServer::Caller::flush() {
  while (out_sent_ < out_size()) {
    const bool head = out_sent_ < out_head_.size();
    const std::string_view rest =
        head ? std::string_view(out_head_).substr(out_sent_)
             : std::string_view(*out_body_).substr(out_sent_ - out_head_.size());
    const int more = head && out_body_ != nullptr && !out_body_->empty() ? MSG_MORE : 0;
    const ssize_t sent = ::send(fd_.get(), rest.data(), rest.size(), MSG_NOSIGNAL | more);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno == EAGAIN;
    out_sent_ += static_cast<size_t>(sent);
    progress_ns_ = now_ns();
  }
  out_head_.clear();
  out_body_ = nullptr;
  out_sent_ = 0;
  return true;
}

// What was not answered yet holds up what was not asked yet: a peer cannot pile up answers, or
// work.
bool ControlServer::Caller::receive() {
  for (;;) {
    if (!handle_all()) return false;
    if (!out_head_.empty() || waiting_) return true;
    const size_t at = in_.size();
    in_.resize(at + kReadStep);
    const ssize_t got = ::recv(fd_.get(), in_.data() + at, kReadStep, 0);
    in_.resize(at + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      if (in_.empty()) in_.shrink_to_fit();
      return errno == EAGAIN;
    }
    if (got == 0) return false;
    progress_ns_ = now_ns();
  }
}

bool ControlServer::Caller::handle_all() {
  while (!waiting_ && out_head_.empty() && in_.size() >= wire::ControlHeader::kSize) {
    Result<wire::ControlHeader> header =
        wire::ControlHeader::decode(as_bytes(in_).first(wire::ControlHeader::kSize));
    if (!header.ok() || header->length > wire::ControlHeader::kMaxRequest) return false;
    const size_t whole = wire::ControlHeader::kSize + header->length;
    if (in_.size() < whole) return true;
    // Whoever sent it gave it up when the connection ended, and reports that it failed.
    if (header->type == wire::ControlType::kNotify && has_ended(fd_.get())) return false;
    handle(*header, std::string_view(in_).substr(wire::ControlHeader::kSize, header->length));
    in_.erase(0, whole);
    if (!flush()) return false;
  }
  return true;
}

void ControlServer::Caller::handle(const wire::ControlHeader& request, std::string_view body) {
  std::shared_ptr<const Bytes> answer_body;
  Status status;
  switch (request.type) {
    case wire::ControlType::kPing:
      answer_body = std::make_shared<const Bytes>(body);
      break;
    case wire::ControlType::kDescribe: {
      ByteReader in(as_bytes(body));
      const auto known = in.number<uint64_t>();
      if (!in.complete()) {
        status = Status(Code::kProtocol, "a describe request cannot be understood");
      } else if (known == 0 || known != server_.service_.generation()) {
        answer_body = server_.service_.describe();
      }
      break;
    }
    case wire::ControlType::kNotify: {
      Result<wire::NotifyBody> notification = wire::NotifyBody::decode(body);
      status = notification.ok() ? server_.service_.notified(notification.take())
                                 : notification.status();
      break;
    }
    case wire::ControlType::kLinks:
      answer_body = std::make_shared<const Bytes>(server_.service_.links());
      break;
    case wire::ControlType::kExchange:
      status = start_exchange(request.id, body);
      if (status.ok()) return;
      break;
    default:
      status = error(Code::kUnsupported, "this engine does not know the request {}",
                     static_cast<int>(request.type));
  }
  answer_request(request.id, status, std::move(answer_body));
}

void ControlServer::Caller::answer_request(uint64_t id, const Status& status,
                                           std::shared_ptr<const Bytes> body) {
  wire::ControlHeader header;
  header.type = wire::ControlType::kAnswer;
  header.id = id;
  if (!status.ok()) {
    header.code = status.code();
    body = std::make_shared<const Bytes>(status.message());
  }
  header.length = body ? body->size() : 0;
  const auto bytes = header.encode();
  answer({bytes.data(), bytes.size()}, std::move(body));
}

// Ok: the answer comes later, on the loop, unless the connection or the server ended meanwhile.
Status ControlServer::Caller::start_exchange(uint64_t id, std::string_view body) {
  Result<wire::ExchangeBody> exchange = wire::ExchangeBody::decode(body);
  if (!exchange.ok()) return exchange.status();
  waiting_ = true;
  const auto answered = [&server = server_, caller = this, alive = std::weak_ptr(alive_),
                         id](Result<Bytes> result) {
    server.loop_->run([&server, caller, alive, id, result = std::move(result)] {
      if (alive.expired() || !server.callers_.contains(caller)) return;
      caller->waiting_ = false;
      caller->progress_ns_ = now_ns();
      std::shared_ptr<const Bytes> bytes;
      if (result.ok()) bytes = std::make_shared<const Bytes>(*result);
      caller->answer_request(id, result.status(), std::move(bytes));
      caller->on_events(0);
    });
  };
  Status status = server_.service_.exchange(exchange.take(), answered);
  if (!status.ok()) waiting_ = false;
  return status;
}

ControlServer::ControlServer(uint64_t instance, const Config& config, ControlService& service)
    : instance_(instance),
      config_(config),
      service_(service),
      inbound_(std::make_shared<Inbound>()) {}

ControlServer::~ControlServer() { stop(); }

Result<std::unique_ptr<ControlServer>> ControlServer::start(const std::string& bind_host,
                                                            uint16_t port, uint64_t instance,
                                                            const Config& config,
                                                            ControlService& service) {
  std::unique_ptr<ControlServer> server(new ControlServer(instance, config, service));
  Result<Fd> listening = listen_tcp(bind_host, port, SOMAXCONN);
  if (!listening.ok()) return listening.status();
  server->port_ = local_address((*listening).get()).port();
  Result<std::unique_ptr<EventLoop>> loop = EventLoop::create("te-control");
  if (!loop.ok()) return loop.status();
  server->loop_ = loop.take();
  Newcomers::Owner& host = *server;
  Acceptor::Owner& door = *server;
  server->newcomers_ = std::make_unique<Newcomers>(*server->loop_, config, host);
  server->acceptor_ = std::make_unique<Acceptor>(*server->loop_, door, "the engine's port");
  TE_RETURN_IF_ERROR(server->acceptor_->start(listening.take()));
  server->loop_->run([raw = server.get()] { raw->check_times(); });
  TE_RETURN_IF_ERROR(server->loop_->start());
  return server;
}

void ControlServer::stop() {
  if (!loop_) return;
  loop_->stop();
  if (newcomers_) newcomers_->clear();
  callers_.clear();
  if (acceptor_) acceptor_->close();
}

// One network gets three quarters of the connections at most. Whoever comes beyond that gets the
// place of an idle connection of its own network, and where all are taken, of a network that has
// more than its own; the owner of that connection connects again when it needs to. Control
// connections go first, at once. Those of data take a moment: their newcomer is told to try again.
bool ControlServer::make_place(const Newcomers::Network& network, const wire::Hello& newcomer) {
  const uint64_t limit = config_.inbound_limit();
  const size_t own = inbound_->of(network);
  const bool has_its_share = own >= limit - limit / 4;
  if (!has_its_share && inbound_->total() < limit) return true;
  const auto may_end = [&](const Newcomers::Network& other) {
    return has_its_share ? other == network : inbound_->of(other) > own;
  };
  const int64_t before_ns = now_ns() - kIdleMs * kNsPerMs;
  Caller* idlest = nullptr;
  for (const auto& [caller, owner] : callers_) {
    if (!caller->idle() || caller->progress_ns() > before_ns) continue;
    if (idlest != nullptr && caller->progress_ns() >= idlest->progress_ns()) continue;
    if (may_end(caller->network)) idlest = caller;
  }
  if (idlest == nullptr) {
    // What the newcomer itself has connected so far may be idle until it has all.
    service_.end_idlest(before_ns, [&](const SocketAddress& peer, const wire::Hello& hello) {
      const bool own_session =
          newcomer.kind == wire::ChannelKind::kTcpData && hello.session == newcomer.session;
      return !own_session && may_end(Newcomers::network_of(peer));
    });
    return false;
  }
  drop(*idlest);
  return true;
}

void ControlServer::refuse(int connection, Code code) {
  wire::HelloAnswer answer;
  answer.instance = instance_;
  answer.code = code;
  const auto bytes = answer.encode();
  (void)!::send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

void ControlServer::refuse(const Fd& connection) {
  // Closed with a hello that was not read, the connection would be reset, and the answer lost.
  std::array<std::byte, wire::Hello::kSize> hello;
  (void)!::recv(connection.get(), hello.data(), hello.size(), 0);
  refuse(connection.get(), Code::kBusy);
}

void ControlServer::accepted(Fd connection) {
  set_no_delay(connection.get());
  newcomers_->add(std::move(connection));
}

void ControlServer::introduced(Fd fd, const wire::Hello& hello) {
  if (hello.target_instance != 0 && hello.target_instance != instance_) {
    return refuse(fd.get(), Code::kStale);
  }
  const Newcomers::Network network = Newcomers::network_of(peer_address(fd.get()));
  if (!make_place(network, hello)) return refuse(fd.get(), Code::kBusy);
  std::shared_ptr<void> permit = Inbound::permit(inbound_, network);
  if (hello.kind == wire::ChannelKind::kTcpData) {
    if (!service_.adopt(fd, hello, std::move(permit))) refuse(fd.get(), Code::kUnsupported);
    return;
  }
  wire::HelloAnswer answer;
  answer.instance = instance_;
  const auto bytes = answer.encode();
  const int raw = fd.get();
  auto caller = std::make_unique<Caller>(*this, std::move(fd), network, std::move(permit));
  caller->answer({bytes.data(), bytes.size()});
  Caller* plain = caller.get();
  callers_.emplace(plain, std::move(caller));
  if (!loop_->add(raw, EPOLLIN | EPOLLOUT | EPOLLRDHUP, plain).ok() || !plain->flush())
    drop(*plain);
}

void ControlServer::drop(Caller& caller) {
  loop_->remove(caller.fd(), &caller);
  auto node = callers_.extract(&caller);
  if (!node.empty()) loop_->retire(std::move(node.mapped()));
}

void ControlServer::check_times() {
  const int64_t now = now_ns();
  newcomers_->check_times(now);
  std::vector<Caller*> stalled;
  for (const auto& [caller, owner] : callers_) {
    if (caller->stalled(now - static_cast<int64_t>(config_.stall_timeout_ms) * kNsPerMs)) {
      stalled.push_back(caller);
    }
  }
  for (Caller* caller : stalled) drop(*caller);
  loop_->run_after(kCheckMs, [this] { check_times(); });
}

}  // namespace te
