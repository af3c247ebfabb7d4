#include "transport/shm/responder.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
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
      forget_memory();
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
    const auto& token = owner_.advertisement_.token;
    if (!std::equal(token.begin(), token.end(), hello.message.data.begin())) {
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
    initiator->socket = socket_.get();
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

  // An initiator asks for one thing at a time, so a full buffer is a breach.
  Status serve(const Message& request) {
    switch (request.kind) {
      case Kind::kMap:
        return map(request);
      case Kind::kOpen:
        return open(request);
      case Kind::kReleased:
        return owner_.released(*initiator_, request.value);
      default:
        return Status(Code::kProtocol, "a message out of turn");
    }
  }

  Status map(const Message& request) {
    Message answer = request;
    answer.kind = Kind::kMapped;
    Result<RangeTable::File> file = owner_.table_.file_of(request.index, request.generation);
    answer.code = file.code();
    answer.value = file.ok() ? file->length : 0;
    if (file.ok()) {
      MutexLock lock(owner_.mutex_);
      initiator_->has_memory = true;
    }
    return send_message(socket_.get(), answer, file.ok() ? file->fd.get() : -1);
  }

  Status open(const Message& request) {
    Message answer;
    answer.kind = Kind::kBlock;
    const Result<BlockTable::Found> found =
        owner_.blocks_.find(request.index, request.generation, request.value);
    Result<BlockHandle> handle = found.ok() ? export_block(*found) : found.status();
    answer.code = handle.code();
    if (!handle.ok()) return send_message(socket_.get(), answer);
    answer.index = found->key.index;
    answer.generation = found->key.generation;
    answer.value = found->block.begin;
    answer.length = found->block.length;
    answer.type = handle->type;
    answer.data = handle->bytes;
    {
      MutexLock lock(owner_.mutex_);
      initiator_->has_memory = true;
      initiator_->has_blocks = true;
    }
    return send_message(socket_.get(), answer, handle->descriptor.get());
  }

  // Without the socket it has none open, or nobody can tell it.
  void forget_memory() {
    if (!initiator_) return;
    MutexLock lock(owner_.mutex_);
    initiator_->has_memory = false;
    initiator_->has_blocks = false;
  }

  // In one process nothing is exported: the driver could not open it.
  Result<BlockHandle> export_block(const BlockTable::Found& found) const {
    Result<BlockHandle> handle = BlockHandle();
    if (initiator_->process.pid != ::getpid()) {
      handle = found.memory->export_block(found.block);
    } else {
      const auto* begin = reinterpret_cast<const std::byte*>(found.block.begin);
      const Status same = found.memory->check(begin, found.block.length);
      if (!same.ok()) handle = same;
    }
    if (handle.ok()) return handle;
    static LogLimit limit;
    log_limited(limit, LogLevel::kWarning, "shm: memory at {:#x} is not opened by {}: {}",
                found.block.begin, initiator_->process.name(), handle.status().message());
    return handle;
  }

  Responder& owner_;
  const uint64_t number_;
  const Fd socket_;
  std::shared_ptr<Initiator> initiator_;
  bool ended_ = false;  // nothing more is read
  bool closed_by_it_ = false;
};

Responder::Responder(EventLoop& loop, RangeTable& table, BlockTable& blocks,
                     const Advertisement& advertisement, const Config& config)
    : loop_(loop),
      table_(table),
      blocks_(blocks),
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

void Responder::tell(Initiator& initiator) {
  // One at a time, so that the socket always has room.
  if (!initiator.has_memory || initiator.told != initiator.released) return;
  Message message;
  message.kind = Kind::kRelease;
  message.value = releases_;
  // If it fails, so does the connection.
  if (send_message(initiator.socket, message).ok()) initiator.told = releases_;
}

Status Responder::released(Initiator& initiator, uint64_t releases) {
  MutexLock lock(mutex_);
  if (initiator.told == initiator.released || releases != initiator.told) {
    return Status(Code::kProtocol, "it closed blocks that it was not told to");
  }
  initiator.released = releases;
  initiator.is_late = false;
  if (releases != releases_) tell(initiator);
  return {};
}

void Responder::release() noexcept {
  MutexLock lock(mutex_);
  ++releases_;
  try {
    for (const std::shared_ptr<Initiator>& initiator : initiators_) tell(*initiator);
  } catch (const std::bad_alloc&) {  // they are told while they are waited for
  }
}

Responder::Initiator* Responder::awaited(uint64_t releases) {
  for (const std::shared_ptr<Initiator>& initiator : initiators_) {
    const bool done = !initiator->has_blocks || initiator->released >= releases;
    if (done || initiator->is_late || initiator->process.exited()) continue;
    tell(*initiator);
    return initiator.get();
  }
  return nullptr;
}

void Responder::wait_until_released() {
  constexpr int64_t kLimitNs = 500 * kNsPerMs;
  const int64_t until = now_ns() + kLimitNs;
  MutexLock lock(mutex_);
  const uint64_t releases = releases_;
  while (Initiator* const initiator = awaited(releases)) {
    if (now_ns() >= until) {
      initiator->is_late = true;
      log_info("shm: {} did not close memory that was unregistered yet: it stands still",
               initiator->process.name());
      continue;
    }
    mutex_.unlock();
    std::this_thread::sleep_for(std::chrono::microseconds(100));
    mutex_.lock();
  }
}

}  // namespace te::shm
