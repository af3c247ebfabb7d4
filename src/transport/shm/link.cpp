#include "transport/shm/link.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "base/clock.h"
#include "base/connect_retry.h"
#include "base/log.h"

namespace te::shm {
namespace {

// For how long, or for a tick of the kernel's clock if that is more, a process that was there is
// taken to be: no pid comes round again within that.
constexpr int64_t kCheckNs = kNsPerMs;

// The target's queue may be full for a moment, when many connect at once.
Result<Fd> connect_within(uint64_t instance, int64_t limit_ms) {
  ConnectRetry retry(deadline_after_ms(now_ns(), limit_ms));
  for (;;) {
    Result<Fd> socket = connect_local(instance);
    if (socket.ok()) return socket;
    const int64_t delay_ms = retry.next_ms(socket.code(), false, now_ns());
    if (delay_ms < 0) return socket;
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
  }
}

}  // namespace

Result<std::shared_ptr<Link>> Link::connect(EventLoop& loop, uint64_t instance,
                                            const Advertisement& advertisement, int64_t limit_ms,
                                            Unmapping unmapping) {
  auto link = std::make_shared<Link>(loop, std::move(unmapping));
  Result<Fd> socket = connect_within(instance, limit_ms);
  if (!socket.ok()) return socket.status();
  link->socket_ = socket.take();
  Result<PeerProcess> process = peer_process(link->socket_.get(), false);
  if (!process.ok()) return process.status();
  link->process_ = process.take();
  TE_RETURN_IF_ERROR(link->introduce(advertisement, limit_ms));
  return link;
}

Status Link::introduce(const Advertisement& advertisement, int64_t limit_ms) {
  Result<MemoryFile> hazards = MemoryFile::create("transfer-engine-hazards", sizeof(HazardPage));
  if (!hazards.ok()) return hazards.status();
  hazards_ = hazards.take();
  Message hello;
  hello.kind = Kind::kHello;
  std::copy(advertisement.token.begin(), advertisement.token.end(), hello.data.begin());
  TE_RETURN_IF_ERROR(send_message(socket_.get(), hello, hazards_.fd()));
  Result<Received> welcome = receive_within(limit_ms);
  if (!welcome.ok()) return welcome.status();
  if (welcome->message.kind != Kind::kWelcome ||
      !is_fixed_memory_file(welcome->descriptor.get(), kTableBytes)) {
    return Status(Code::kProtocol, "the target does not share its table of ranges");
  }
  Result<Mapping> table = Mapping::map(welcome->descriptor.get(), kTableBytes, false);
  if (!table.ok()) return table.status();
  ranges_ = std::make_unique<RangeView>(table.take());
  {
    MutexLock lock(mutex_);
    blocks_.emplace(*ranges_);
  }

  // What it cannot prove by its memory the socket has to: its owner is of this user, and hears that
  // engine's number.
  if (process_.pid == 0) return {};
  decltype(Advertisement::cookie) cookie{};
  iovec local{cookie.data(), cookie.size()};
  iovec remote{reinterpret_cast<void*>(welcome->message.value), cookie.size()};
  const ssize_t got = ::process_vm_readv(process_.pid, &local, 1, &remote, 1, 0);
  if (got < 0 && (errno == EPERM || errno == ENOSYS || errno == EACCES)) {
    static LogLimit limit;
    log_limited(
        limit, LogLevel::kInfo,
        "shm: the kernel does not let this process touch the memory of process {} ({}): only "
        "what the engine allocated is shared",
        process_.pid, errno_text(errno));
    return {};
  }
  if (got != static_cast<ssize_t>(cookie.size()) || cookie != advertisement.cookie) {
    return error(Code::kProtocol, "process {} is not the target", process_.pid);
  }
  attach_allowed_.store(true);
  return {};
}

Result<Received> Link::receive_within(int64_t limit_ms) {
  const int64_t until = deadline_after_ms(now_ns(), limit_ms);
  for (;;) {
    Result<std::optional<Received>> received = receive_message(socket_.get());
    if (!received.ok()) return received.status();
    if (received->has_value()) return std::move(**received);
    const int64_t left = (until - now_ns()) / kNsPerMs;
    if (left <= 0) {
      return error(Code::kUnavailable, "the target did not answer within {} ms: is it stopped?",
                   limit_ms);
    }
    pollfd entry{socket_.get(), POLLIN, 0};
    ::poll(&entry, 1, static_cast<int>(std::min<int64_t>(left, 60'000)));
  }
}

Status Link::watch(Owner owner) {
  {
    MutexLock lock(owner_mutex_);
    owner_ = std::move(owner);
  }
  // The loop keeps it until it has let go of it.
  const bool running = loop_.run([self = shared_from_this()] {
    Status status = self->loop_.add(self->socket_.get(), EPOLLIN | EPOLLRDHUP, self.get());
    if (status.ok()) status = self->loop_.add(self->process_.pidfd.get(), EPOLLIN, self.get());
    if (!status.ok()) self->fail(status);
    self->on_events(0);  // what came before that
  });
  return running ? Status() : Status(Code::kUnavailable, "the transport ends");
}

void Link::close() {
  {
    MutexLock lock(owner_mutex_);
    owner_ = {};
  }
  drop_blocks();
  loop_.run([self = shared_from_this()] {
    self->loop_.remove(self->socket_.get(), self.get());
    self->loop_.remove(self->process_.pidfd.get(), self.get());
    // Events of this turn may still name it.
    self->loop_.run([self] {});
  });
}

bool Link::alive() {
  if (!alive_.load(std::memory_order_relaxed)) return false;
  const int64_t now = now_at_tick_ns();
  if (now - checked_ns_.load(std::memory_order_relaxed) < kCheckNs) return true;
  // The socket too: a process that becomes another program keeps its pid, but closes that.
  pollfd entries[] = {{process_.pidfd.get(), POLLIN, 0}, {socket_.get(), POLLRDHUP, 0}};
  if (::poll(entries, 2, 0) != 0) return false;
  checked_ns_.store(now, std::memory_order_relaxed);
  return true;
}

void Link::drop_blocks() {
  OpenBlocks::Dropped dropped;  // closed behind the lock
  MutexLock lock(mutex_);
  if (blocks_) dropped = blocks_->drop_all();
}

void Link::fail(const Status& why) {
  alive_.store(false);
  drop_blocks();
  std::deque<Question> dropped;  // what they keep ends behind the lock
  MutexLock lock(owner_mutex_);
  {
    MutexLock files(mutex_);
    for (const Question& question : asked_) {
      if (question.copier == nullptr) files_[question.key.index].code = Code::kUnavailable;
    }
    dropped.swap(asked_);
    asked_blocks_.clear();
  }
  if (!owner_.failed) return;
  const auto failed = std::move(owner_.failed);
  owner_ = {};
  failed(why);
}

void Link::on_events(uint32_t) {
  while (alive_.load()) {
    Result<std::optional<Received>> received = receive_message(socket_.get());
    Status status = received.status();
    if (status.ok() && !received->has_value()) {
      if (!process_.exited()) return;
      status = error(Code::kUnavailable, "{} ended", process_.name());
    }
    if (status.ok()) status = take_answer(**received);
    if (!status.ok()) return fail(status);
  }
}

Status Link::take_answer(Received& answer) {
  switch (answer.message.kind) {
    case Kind::kMapped:
      return take_mapping(answer);
    case Kind::kBlock:
      return take_block(answer);
    case Kind::kRelease:
      return release(answer.message);
    default:
      return Status(Code::kProtocol, "the target answers what was not asked");
  }
}

// Until the last copy with it has ended.
std::shared_ptr<const Mapping> Link::share(Mapping mapping) const {
  auto owned = std::make_unique<const Mapping>(std::move(mapping));
  if (!unmapping_) return owned;
  return {owned.release(), [unmapping = unmapping_](const Mapping* shared) {
            unmapping(*shared);
            std::default_delete<const Mapping>()(shared);
          }};
}

// Of ranges that are gone.
Link::Files Link::take_outdated_files() {
  Files outdated;
  std::erase_if(files_, [&](auto& entry) {
    const RangeKey key{entry.first, entry.second.generation, Way::kMapped};
    if (entry.second.code == Code::kBusy || ranges_->find(key) != nullptr) return false;
    outdated.push_back(std::move(entry.second.memory));
    return true;
  });
  return outdated;
}

Status Link::take_mapping(Received& answer) {
  const Message& message = answer.message;
  File file;
  file.code = message.code;
  if (message.code == Code::kOk) {
    Result<Mapping> mapping = Status(Code::kProtocol, "the range's file is not sealed");
    if (message.value > 0 && is_fixed_memory_file(answer.descriptor.get(), message.value)) {
      mapping = Mapping::map(answer.descriptor.get(), message.value, true);
    }
    file.code = mapping.code();
    if (mapping.ok()) {
      mapping->keep_from_children();  // a child would keep it alive
      file.memory = share(mapping.take());
    } else {
      static LogLimit limit;
      log_limited(limit, LogLevel::kInfo, "shm: memory of {} cannot be mapped: {}", process_.name(),
                  mapping.status().message());
    }
  }
  std::shared_ptr<const Mapping> replaced;  // unmapped behind the lock
  Files outdated;                           // likewise
  {
    MutexLock lock(mutex_);
    if (asked_.empty() || asked_.front().copier != nullptr ||
        asked_.front().key.index != message.index ||
        asked_.front().key.generation != message.generation) {
      return Status(Code::kProtocol, "the target answers what was not asked");
    }
    file.generation = message.generation;
    replaced = std::exchange(files_[message.index], file).memory;
    asked_.pop_front();
    ask_next();
    outdated = take_outdated_files();
  }
  MutexLock lock(owner_mutex_);
  if (owner_.mapped) owner_.mapped();
  return {};
}

void Link::ask(Question question) {
  asked_.push_back(std::move(question));
  if (asked_.size() == 1) ask_next();
}

// One at a time, so that the socket always has room.
void Link::ask_next() {
  while (!asked_.empty()) {
    const Question& next = asked_.front();
    if (next.copier == nullptr || !blocks_->find(next.copier, next.address)) break;
    // The answer to another question has this one's.
    asked_blocks_.erase({next.copier, next.address});
    asked_.pop_front();
  }
  if (asked_.empty()) return;
  const Question& next = asked_.front();
  Message request;
  request.kind = next.copier == nullptr ? Kind::kMap : Kind::kOpen;
  request.index = next.key.index;
  request.generation = next.key.generation;
  request.value = next.address;
  // If it fails, so does the connection.
  (void)send_message(socket_.get(), request);
}

Link::Mapped Link::find_mapping(const RangeKey& key, const std::function<void()>& wait) {
  std::shared_ptr<const Mapping> outdated;  // unmapped behind the lock
  MutexLock lock(mutex_);
  File& file = files_[key.index];
  if (file.generation == key.generation && file.code != Code::kBusy) {
    return {file.memory, file.code};
  }
  if (!alive_.load()) return {nullptr, Code::kUnavailable};
  if (file.generation != key.generation) {
    outdated = std::exchange(file, File{key.generation, nullptr, Code::kBusy}).memory;
    ask({key});
  }
  wait();
  return {nullptr, Code::kBusy};
}

bool Link::may_map(const RangeKey& key) const {
  MutexLock lock(mutex_);
  const auto found = files_.find(key.index);
  return found == files_.end() || found->second.generation != key.generation ||
         found->second.code == Code::kOk || found->second.code == Code::kBusy;
}

}  // namespace te::shm
