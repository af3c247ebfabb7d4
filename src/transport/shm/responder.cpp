#include "transport/shm/responder.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "base/clock.h"
#include "base/log.h"

namespace te::shm {

// One initiator, from its acceptance on until it can touch nothing any more: it closed its side
// with no copy under way, or its process ended. One that was killed in the middle of a copy closes
// its descriptors before its last system call is over, so that alone says nothing.
class Responder::Connection final : public EventLoop::Handler {
 public:
  Connection(Responder& owner, uint64_t number, Fd socket)
      : owner_(owner), number_(number), socket_(std::move(socket)) {}
  ~Connection() override {
    if (!initiator_) return;
    MutexLock lock(owner_.mutex_);
    std::erase(owner_.initiators_, initiator_);
  }

  uint64_t number() const { return number_; }
  bool introduced() const { return initiator_ != nullptr; }
  Status watch() { return owner_.loop_.add(socket_.get(), EPOLLIN | EPOLLRDHUP, this); }
  void ignore() {
    owner_.loop_.remove(socket_.get(), this);
    if (initiator_) owner_.loop_.remove(initiator_->process.pidfd.get(), this);
  }

  void on_events(uint32_t) override {
    while (!ended_) {
      Result<std::optional<Received>> received = receive_message(socket_.get());
      Status status = received.status();
      if (status.ok() && !received->has_value()) {
        if (!initiator_ || !initiator_->process.exited()) return;
        status = Status(Code::kUnavailable, "it ended");  // though others hold its descriptors
      } else if (status.ok()) {
        Received& message = **received;
        status = initiator_ ? serve(message.message) : introduce(message);
      }
      if (status.ok()) continue;
      ended_ = true;
      closed_by_it_ = status.code() == Code::kUnavailable;
      if (closed_by_it_) break;
      static LogLimit limit;
      log_limited(limit, LogLevel::kInfo, "shm: an initiator was turned away: {}",
                  status.message());
      ::shutdown(socket_.get(), SHUT_RDWR);
    }
    const bool harmless =
        !initiator_ || initiator_->process.exited() || (closed_by_it_ && !initiator_->page().any());
    if (harmless) owner_.drop(this);
  }

 private:
  Status introduce(Received& hello) {
    if (hello.message.kind != Kind::kHello) {
      return Status(Code::kProtocol, "it does not introduce itself");
    }
    if (hello.message.token != owner_.advertisement_.token) {
      return Status(Code::kPermission, "it does not know this engine's token");
    }
    if (!is_fixed_memory_file(hello.descriptor.get(), sizeof(HazardPage))) {
      return Status(Code::kProtocol, "its hazard slots are not a sealed memory file");
    }
    Result<PeerProcess> process = peer_process(socket_.get(), true);
    if (!process.ok()) return process.status();
    Result<Mapping> hazards = Mapping::map(hello.descriptor.get(), sizeof(HazardPage), false);
    if (!hazards.ok()) return hazards.status();
    auto initiator = std::make_shared<Initiator>();
    initiator->process = process.take();
    initiator->hazards = hazards.take();
    TE_RETURN_IF_ERROR(owner_.loop_.add(initiator->process.pidfd.get(), EPOLLIN, this));
    initiator_ = initiator;
    {
      MutexLock lock(owner_.mutex_);
      owner_.initiators_.push_back(std::move(initiator));
    }
    Message welcome;
    welcome.kind = Kind::kWelcome;
    welcome.value = reinterpret_cast<uint64_t>(owner_.advertisement_.cookie.data());
    return send_message(socket_.get(), welcome, owner_.table_.fd());
  }

  Status serve(const Message& request) {
    if (request.kind != Kind::kMap) return Status(Code::kProtocol, "a message out of turn");
    Message answer = request;
    answer.kind = Kind::kMapped;
    Result<RangeTable::File> file = owner_.table_.file_of(request.index, request.generation);
    answer.code = file.code();
    answer.value = file.ok() ? file->length : 0;
    // An initiator asks for one at a time, so a full buffer is a breach.
    return send_message(socket_.get(), answer, file.ok() ? file->fd.get() : -1);
  }

  Responder& owner_;
  const uint64_t number_;
  const Fd socket_;
  std::shared_ptr<Initiator> initiator_;
  bool ended_ = false;  // nothing more is read
  bool closed_by_it_ = false;
};

Responder::Responder(EventLoop& loop, RangeTable& table, const Advertisement& advertisement,
                     const Config& config)
    : loop_(loop),
      table_(table),
      advertisement_(advertisement),
      config_(config),
      acceptor_(loop, *this, "the local socket of shm") {}

Responder::~Responder() { close(); }

void Responder::close() {
  acceptor_.close();
  connections_.clear();
}

Status Responder::listen(uint64_t instance) {
  Result<Fd> listener = listen_local(instance);
  if (!listener.ok()) return listener.status();
  return acceptor_.start(listener.take());
}

void Responder::accepted(Fd socket) {
  if (connections_.size() >= config_.local_inbound_limit()) return;
  const uint64_t number = next_connection_++;
  auto connection = std::make_unique<Connection>(*this, number, std::move(socket));
  Connection& added = *connection;
  if (!added.watch().ok()) return;
  connections_.emplace(number, std::move(connection));
  loop_.run_after(static_cast<int64_t>(config_.hello_timeout_ms), [this, number] {
    const auto found = connections_.find(number);
    if (found != connections_.end() && !found->second->introduced()) drop(found->second.get());
  });
}

void Responder::drop(Connection* connection) {
  const auto found = connections_.find(connection->number());
  if (found == connections_.end()) return;
  connection->ignore();
  loop_.retire(std::move(found->second));
  connections_.erase(found);
}

template <typename Touches>
Status Responder::wait_while(Touches&& touches, int64_t until_ns) {
  constexpr int64_t kYieldNs = 200'000;
  const int64_t since = now_ns();
  for (;;) {
    std::string who;
    {
      MutexLock lock(mutex_);
      for (const std::shared_ptr<Initiator>& initiator : initiators_) {
        if (touches(initiator->page()) && !initiator->process.exited()) {
          who = initiator->process.name();
        }
      }
    }
    if (who.empty()) return {};
    const int64_t now = now_ns();
    if (now >= until_ns) {
      return error(Code::kBusy,
                   "{} stands still in the middle of a copy: let it go on (SIGCONT), or end "
                   "it",
                   who);
    }
    if (now - since < kYieldNs) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }
}

Status Responder::wait_until_unused(uint32_t index, int64_t until_ns) {
  return wait_while([index](const HazardPage& page) { return page.names(index); }, until_ns);
}

Status Responder::wait_until_unused(int64_t until_ns) {
  return wait_while([](const HazardPage& page) { return page.any(); }, until_ns);
}

}  // namespace te::shm
