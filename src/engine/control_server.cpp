#include "engine/control_server.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "base/clock.h"
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
  Caller(ControlServer& server, Fd fd, const Newcomers::Network& from, std::shared_ptr<void> permit)
      : network(from),
        session(
            server.service_,
            [&server](std::function<void()> task) { server.loop_->run(std::move(task)); },
            [this] { resume(); }),
        server_(server),
        fd_(std::move(fd)),
        permit_(std::move(permit)),
        progress_ns_(now_ns()) {}

  void on_events(uint32_t) override {
    if (!flush() || !receive()) server_.drop(*this);
  }
  bool flush();  // false: of no use any more
  bool stalled(int64_t before_ns) const {
    return !session.idle() && !session.waiting() && progress_ns_ < before_ns;
  }
  int64_t progress_ns() const { return progress_ns_; }  // when something was last
  int fd() const { return fd_.get(); }

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
  Fd fd_;
  const std::shared_ptr<void> permit_;
  int64_t progress_ns_;
};

bool ControlServer::Caller::flush() {
  for (ControlSession::Unsent next = session.unsent(); !next.bytes.empty();
       next = session.unsent()) {
    const int flags = MSG_NOSIGNAL | (next.more ? MSG_MORE : 0);
    const ssize_t sent = ::send(fd_.get(), next.bytes.data(), next.bytes.size(), flags);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno == EAGAIN;
    session.sent(static_cast<size_t>(sent));
    progress_ns_ = now_ns();
  }
  return true;
}

bool ControlServer::Caller::receive() {
  for (;;) {
    while (session.handle_next([this] { return has_ended(fd_.get()); })) {
      if (!flush()) return false;
    }
    if (session.broken()) return false;
    if (!session.may_receive()) return true;
    const ssize_t got =
        session.receive([this](char* to, size_t most) { return ::recv(fd_.get(), to, most, 0); });
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
