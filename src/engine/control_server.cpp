#include "engine/control_server.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "base/clock.h"
#include "base/log.h"
#include "engine/control_session.h"

namespace te {
namespace {

constexpr int64_t kCheckMs = 250;
constexpr int64_t kIdleMs = 1'000;  // then a connection may have to make place for another

// Whether the other side closed or reset the connection, be there bytes to read or not.
bool has_ended(int fd) {
  pollfd entry{fd, POLLRDHUP, 0};
  return ::poll(&entry, 1, 0) > 0;
}

}  // namespace

// A connection of the control channel.
class ControlServer::Caller final : public EventLoop::Handler {
 public:
  Caller(ControlServer& server, tls::Connection connection, const Newcomers::Network& from,
         std::shared_ptr<void> permit)
      : network(from),
        session(
            server.service_, connection.principal(),
            [&server](std::function<void()> task) { server.loop_->run(std::move(task)); },
            [this] { resume(); }),
        server_(server),
        connection_(std::move(connection)),
        permit_(std::move(permit)),
        progress_ns_(now_ns()) {}

  void on_events(uint32_t) override {
    if (!flush() || !receive()) server_.drop(*this);
  }
  bool flush();  // false: of no use any more
  bool stalled(int64_t before_ns) const {
    const bool in_the_middle = !session.idle() || connection_.in_the_middle();
    return in_the_middle && !session.waiting() && progress_ns_ < before_ns;
  }
  bool still_let_in(int64_t now_ns) {
    const Status status = connection_.recheck(now_ns);
    if (!status.ok()) {
      log_warning("control connection from {}: {}", peer_address(fd()).to_string(),
                  status.message());
    }
    return status.ok();
  }
  int64_t progress_ns() const { return progress_ns_; }  // when something was last
  int fd() const { return connection_.fd(); }

  const Newcomers::Network network;
  ControlSession session;

 private:
  bool receive();  // false: of no use any more
  // It may be dropped already, and wait for its end.
  void resume() {
    progress_ns_ = now_ns();
    if (server_.callers_.contains(this)) on_events(0);
  }

  ControlServer& server_;
  tls::Connection connection_;
  const std::shared_ptr<void> permit_;
  int64_t progress_ns_;
};

bool ControlServer::Caller::flush() {
  for (ControlSession::Unsent next = session.unsent(); !next.bytes.empty();
       next = session.unsent()) {
    const ssize_t sent = connection_.send(next.bytes, next.more ? MSG_MORE : 0);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno == EAGAIN;
    session.sent(static_cast<size_t>(sent));
    progress_ns_ = now_ns();
  }
  return true;
}

bool ControlServer::Caller::receive() {
  for (;;) {
    while (session.handle_next([this] { return has_ended(connection_.fd()); })) {
      if (!flush()) return false;
    }
    if (session.broken()) return false;
    if (!session.may_receive()) return true;
    const ssize_t got =
        session.receive([this](char* to, size_t most) { return connection_.receive(to, most); });
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return false;
    progress_ns_ = now_ns();
  }
}

ControlServer::ControlServer(uint64_t instance, const Config& config, ControlService& service)
    : instance_(instance),
      config_(config),
      service_(service),
      inbound_(std::make_shared<Inbound>(config.inbound_limit())) {}

ControlServer::~ControlServer() { stop(); }

Result<std::unique_ptr<ControlServer>> ControlServer::start(
    const std::string& bind_host, uint16_t port, uint64_t instance, const Config& config,
    ControlService& service, std::shared_ptr<tls::Identity> identity) {
  std::unique_ptr<ControlServer> server(new ControlServer(instance, config, service));
  Result<Fd> listening = listen_tcp(bind_host, port, SOMAXCONN);
  if (!listening.ok()) return listening.status();
  server->port_ = local_address((*listening).get()).port();
  server->identity_ = identity;
  Result<std::unique_ptr<EventLoop>> loop = EventLoop::create("te-control");
  if (!loop.ok()) return loop.status();
  server->loop_ = loop.take();
  Newcomers::Owner& host = *server;
  Acceptor::Owner& door = *server;
  server->newcomers_ =
      std::make_unique<Newcomers>(*server->loop_, config, std::move(identity), host);
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

// Of those that may make place, the connection that is idle for longest does; its owner connects
// again when it needs to. Control connections go first, at once. Those of data take a moment: their
// newcomer is told to try again.
bool ControlServer::make_place(const Newcomers::Network& network, const wire::Hello& newcomer) {
  const Inbound::Admission admission = inbound_->admission(network);
  if (admission.free) return true;
  const auto may_end = [&](const Newcomers::Network& other) {
    return inbound_->makes_place(other, network, admission);
  };
  const int64_t before_ns = now_ns() - kIdleMs * kNsPerMs;
  Caller* idlest = nullptr;
  for (const auto& [caller, owner] : callers_) {
    if (!caller->session.idle() || caller->progress_ns() > before_ns) continue;
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

void ControlServer::refuse(tls::Connection& connection, Code code) {
  wire::HelloAnswer answer;
  answer.instance = instance_;
  answer.code = code;
  const auto bytes = answer.encode();
  (void)connection.send({bytes.data(), bytes.size()});
}

void ControlServer::refuse(Fd accepted) {
  if (identity_) return;  // closed, it makes the peer try again
  // Closed with a hello that was not read, the connection would be reset, and the answer lost.
  std::array<std::byte, wire::Hello::kSize> hello;
  (void)!::recv(accepted.get(), hello.data(), hello.size(), 0);
  tls::Connection connection(std::move(accepted));
  refuse(connection, Code::kBusy);
}

void ControlServer::accepted(Fd connection) {
  set_no_delay(connection.get());
  newcomers_->add(std::move(connection));
}

void ControlServer::introduced(tls::Connection connection, const wire::Hello& hello) {
  if (hello.target_instance != 0 && hello.target_instance != instance_) {
    return refuse(connection, Code::kStale);
  }
  const Newcomers::Network network = Newcomers::network_of(peer_address(connection.fd()));
  if (!make_place(network, hello)) return refuse(connection, Code::kBusy);
  std::shared_ptr<void> permit = Inbound::permit(inbound_, network);
  if (hello.kind == wire::ChannelKind::kTcpData) {
    if (!service_.adopt(connection, hello, std::move(permit))) {
      refuse(connection, Code::kUnsupported);
    }
    return;
  }
  wire::HelloAnswer answer;
  answer.instance = instance_;
  const auto bytes = answer.encode();
  const int raw = connection.fd();
  auto caller = std::make_unique<Caller>(*this, std::move(connection), network, std::move(permit));
  caller->session.answer({bytes.data(), bytes.size()});
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
  service_.check_peers(now);
  std::vector<Caller*> unwanted;
  for (const auto& [caller, owner] : callers_) {
    if (caller->stalled(now - static_cast<int64_t>(config_.stall_timeout_ms) * kNsPerMs) ||
        !caller->still_let_in(now)) {
      unwanted.push_back(caller);
    }
  }
  for (Caller* caller : unwanted) drop(*caller);
  loop_->run_after(kCheckMs, [this] { check_times(); });
}

}  // namespace te
