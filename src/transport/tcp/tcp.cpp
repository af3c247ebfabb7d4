#include "transport/tcp/tcp.h"

#include <algorithm>
#include <unordered_map>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "core/access_table.h"
#include "transport/tcp/path.h"
#include "transport/tcp/responder.h"
#include "transport/tcp/settings.h"

namespace te {
namespace tcp {
namespace {

constexpr int64_t kStallCheckMs = 250;
constexpr int64_t kCarefulNs = 10'000 * kNsPerMs;        // after memory turned out to be unreadable
constexpr std::chrono::milliseconds kRetireLimit{1000};  // a loop's turn takes less
constexpr size_t kMaxSessionMembers = 256;               // connections that claim one session

// A setting, or what suits this machine: each connection keeps a core busy on either side, and
// moves a third of the bytes if they are encrypted.
uint64_t by_cores(uint64_t setting, bool encrypted) {
  if (setting != 0) return setting;
  const unsigned cores = std::thread::hardware_concurrency();
  return encrypted ? std::clamp(cores, 1u, 8u) : std::clamp(cores / 2, 1u, 4u);
}

// For connections to this address. On one machine the kernel copies always.
ZeroCopyMode zero_copy_mode(const Config& config, const SocketAddress& address) {
  const std::string asked = config.text(kZeroCopy);
  if (asked == "on") return ZeroCopyMode::kOn;
  const bool off = asked == "off" || is_local_address(address);
  return off ? ZeroCopyMode::kOff : ZeroCopyMode::kAuto;
}

class TcpTransport;

// A loop with the connections of peers that it serves.
class Worker final : public ResponderOwner {
 public:
  // The first one looks after the paths too.
  Worker(TcpTransport& transport, std::unique_ptr<EventLoop> event_loop, int64_t stall_ms,
         bool first)
      : transport_(transport), loop_(std::move(event_loop)), stall_ms_(stall_ms), first_(first) {}

  EventLoop& loop() { return *loop_; }
  Status start() {
    loop_->run([this] { check_stalled(); });
    return loop_->start();
  }
  // On the loop.
  void add(std::unique_ptr<Responder> responder);
  void responder_ended(Responder& responder) override;
  void found_unreadable() override { careful_until_ns_ = now_ns() + kCarefulNs; }
  bool careful() override { return careful_until_ns_ != 0 && now_ns() < careful_until_ns_; }
  // Any thread. Nothing happens to a connection that ended meanwhile.
  void admit_later(Responder* responder);
  void end_later(Responder* responder);
  void end_later_if_idle(Responder* responder, int64_t before_ns);
  // After the loop stopped.
  void clear() { responders_.clear(); }

 private:
  void check_stalled();

  TcpTransport& transport_;
  const std::unique_ptr<EventLoop> loop_;
  const int64_t stall_ms_;
  const bool first_;
  int64_t careful_until_ns_ = 0;                                           // the loop's
  std::unordered_map<Responder*, std::unique_ptr<Responder>> responders_;  // the loop's
};

// Which connections of a peer's session are alive here, so that older epochs end first.
struct Session {
  struct Member {
    Responder* responder;
    Worker* worker;
    uint64_t epoch;
    bool waiting;
  };
  uint64_t epoch = 0;
  std::vector<Member> members;
};

class TcpTransport final : public Transport {
 public:
  TcpTransport(TransportHost& host, const Config& config) : host_(host), config_(config) {}
  ~TcpTransport() override { stop(); }

  Status start();

  std::string_view name() const override { return "tcp"; }
  Capabilities capabilities() const override {
    return {.same_engine_only = false,
            .data_over_engine_port = true,
            .reach = {{MemoryKind::kHost}, {MemoryKind::kHost}},
            .checks_rights = true,
            .key_size = AccessKey::kSize};
  }
  std::vector<DeviceLoad> loads() const override;
  Result<Bytes> register_memory(const Buffer& buffer) override;
  void unregister_memory(const Buffer& buffer) override;
  std::vector<std::shared_ptr<Path>> make_paths(const Peer& peer, ByteView info) override;
  void warm_up(Path& path) override { static_cast<TcpPath&>(path).warm_up(); }
  void adopt(tls::Connection connection, const wire::Hello& hello,
             std::shared_ptr<void> permit) override;
  bool end_idlest(int64_t before_ns, const MayEnd& may_end) override;
  Result<Bytes> accept(const Bytes& hello, Rights rights) override;
  void submit(SliceList slices) override {
    static_cast<TcpPath*>(slices.first->path)->submit(slices);
  }
  bool progress(Path& path, int64_t until_ns, Waker& waker) override {
    return static_cast<TcpPath&>(path).progress(until_ns, waker);
  }
  void sweep(Path& path) override { static_cast<TcpPath&>(path).sweep(); }
  void reset(Path& path) override {
    static_cast<TcpPath&>(path).reset(Code::kUnavailable,
                                      Status(Code::kUnavailable, "tcp: the session was reset"));
  }
  void stop() override;

  // On the worker's loop.
  void join(Responder& responder, Worker& worker);
  void leave(Responder& responder);
  void check_paths();
  uint64_t instance() const { return host_.instance(); }

 private:
  bool encrypts() const { return host_.identity() != nullptr; }

  TransportHost& host_;
  const Config config_;
  const std::shared_ptr<ZeroCopyTotals> zero_copy_totals_ = std::make_shared<ZeroCopyTotals>();
  AccessTable table_;
  std::vector<std::unique_ptr<Worker>> workers_;
  mutable Mutex mutex_{LockRank::kTransport};
  CondVar left_;  // a connection left its session
  bool stopped_ TE_GUARDED_BY(mutex_) = false;
  std::unordered_map<uint64_t, Session> sessions_ TE_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<TcpPath>> paths_ TE_GUARDED_BY(mutex_);
};

void Worker::add(std::unique_ptr<Responder> responder) {
  Responder& added = *responder;
  responders_.emplace(&added, std::move(responder));
  transport_.join(added, *this);
}

void Worker::responder_ended(Responder& responder) {
  transport_.leave(responder);
  auto node = responders_.extract(&responder);
  if (!node.empty()) loop_->retire(std::move(node.mapped()));
}

void Worker::admit_later(Responder* responder) {
  loop_->run([this, responder] {
    if (responders_.contains(responder)) responder->admit(transport_.instance());
  });
}

void Worker::end_later(Responder* responder) {
  loop_->run([this, responder] {
    if (responders_.contains(responder)) responder_ended(*responder);
  });
}

void Worker::end_later_if_idle(Responder* responder, int64_t before_ns) {
  loop_->run([this, responder, before_ns] {
    if (responders_.contains(responder)) responder->end_if_idle(before_ns);
  });
}

void Worker::check_stalled() {
  std::vector<Responder*> all;
  for (const auto& [responder, owner] : responders_) all.push_back(responder);
  const int64_t now = now_ns();
  for (Responder* responder : all) {
    responder->end_if_stalled(now - stall_ms_ * kNsPerMs);
    if (responders_.contains(responder)) responder->end_if_refused(now);
  }
  if (first_) transport_.check_paths();
  loop_->run_after(kStallCheckMs, [this] { check_stalled(); });
}

Status TcpTransport::start() {
  for (uint64_t i = 0; i < by_cores(config_.number(kThreads), encrypts()); ++i) {
    Result<std::unique_ptr<EventLoop>> loop = EventLoop::create(fmt::format("te-tcp-{}", i));
    if (!loop.ok()) return loop.status();
    (*loop)->set_spin_ns(static_cast<int64_t>(config_.number(kSpin)) * 1000);
    workers_.push_back(std::make_unique<Worker>(
        *this, loop.take(), static_cast<int64_t>(config_.stall_timeout_ms), i == 0));
  }
  for (const std::unique_ptr<Worker>& worker : workers_) TE_RETURN_IF_ERROR(worker->start());
  return {};
}

std::vector<DeviceLoad> TcpTransport::loads() const {
  DeviceLoad load;
  load.device = "tcp";
  MutexLock lock(mutex_);
  for (const std::weak_ptr<TcpPath>& weak : paths_) {
    if (const std::shared_ptr<TcpPath> path = weak.lock())
      load.inflight_bytes += path->inflight_bytes;
  }
  return {load};
}

Result<Bytes> TcpTransport::register_memory(const Buffer& buffer) {
  Bytes bytes(AccessKey::kSize, '\0');  // first, so that no key gets lost when memory is short
  Result<AccessKey> key = table_.add(buffer.address, buffer.length, buffer.remote);
  if (!key.ok()) return key.status();
  key->encode(reinterpret_cast<std::byte*>(bytes.data()));
  return bytes;
}

void TcpTransport::unregister_memory(const Buffer& buffer) {
  const auto key = buffer.keys.find("tcp");
  if (key != buffer.keys.end() && key->second.size() == AccessKey::kSize)
    table_.remove(AccessKey::decode(as_bytes(key->second).data()));
}

std::vector<std::shared_ptr<Path>> TcpTransport::make_paths(const Peer& peer, ByteView) {
  if (peer.key_size != AccessKey::kSize) return {};
  std::vector<EventLoop*> loops;
  for (const std::unique_ptr<Worker>& worker : workers_) loops.push_back(&worker->loop());
  const LaneOptions options{config_.connect_timeout_ms, config_.stall_timeout_ms,
                            zero_copy_mode(config_, peer.address), zero_copy_totals_,
                            host_.identity()};
  auto path = std::make_shared<TcpPath>(*this, host_, std::move(loops),
                                        by_cores(config_.number(kConnections), encrypts()), options,
                                        static_cast<int64_t>(config_.number(kSpin)) * 1000, peer);
  bool stopped = false;
  {
    MutexLock lock(mutex_);
    stopped = stopped_;
    std::erase_if(paths_, [](const std::weak_ptr<TcpPath>& weak) { return weak.expired(); });
    paths_.push_back(path);
  }
  if (stopped) path->end();
  // Lanes and path hold each other while a session stands: it ends with the engine's interest.
  TcpPath* plain = path.get();
  return {std::shared_ptr<Path>(
      plain, [path](Path*) { run_persistently([&path] { path->reset(Code::kCancelled, {}); }); })};
}

void TcpTransport::adopt(tls::Connection connection, const wire::Hello& hello,
                         std::shared_ptr<void> permit) {
  set_no_delay(connection.fd());
  keep_in_cache(connection.fd(), connection.bulk_size());
  Worker& worker = *workers_[(hello.session + hello.lane) % workers_.size()];
  // std::function wants what can be copied.
  auto kept = std::make_shared<tls::Connection>(std::move(connection));
  worker.loop().run([this, &worker, kept, hello, permit] {
    worker.add(std::make_unique<Responder>(worker.loop(), table_, worker, std::move(*kept), hello,
                                           permit));
  });
}

void TcpTransport::join(Responder& responder, Worker& worker) {
  const wire::Hello& hello = responder.hello();
  if (hello.target_instance != 0 && hello.target_instance != host_.instance()) {
    return responder.refuse(host_.instance(), Code::kStale);
  }
  bool outdated = false;
  {
    MutexLock lock(mutex_);
    Session& session = sessions_[hello.session];
    session.epoch = std::max(session.epoch, hello.epoch);
    outdated = hello.epoch < session.epoch || session.members.size() >= kMaxSessionMembers;
    if (!outdated) {
      bool wait = false;
      for (const Session::Member& member : session.members) {
        if (member.epoch >= hello.epoch) continue;
        wait = true;
        member.worker->end_later(member.responder);
      }
      session.members.push_back({&responder, &worker, hello.epoch, wait});
      if (wait) return;
    }
  }
  if (outdated) return responder.refuse(host_.instance(), Code::kUnavailable);
  responder.admit(host_.instance());
}

void TcpTransport::leave(Responder& responder) {
  MutexLock lock(mutex_);
  const auto found = sessions_.find(responder.hello().session);
  if (found == sessions_.end()) return;
  Session& session = found->second;
  left_.notify_all();
  std::erase_if(session.members, [&responder](const Session::Member& member) {
    return member.responder == &responder;
  });
  if (session.members.empty()) {
    sessions_.erase(found);
    return;
  }
  for (Session::Member& member : session.members) {
    const bool older =
        std::any_of(session.members.begin(), session.members.end(),
                    [&member](const Session::Member& other) { return other.epoch < member.epoch; });
    if (!member.waiting || older) continue;
    member.waiting = false;
    member.worker->admit_later(member.responder);
  }
}

// All connections of a session, since its peer gives up all when it loses one.
bool TcpTransport::end_idlest(int64_t before_ns, const MayEnd& may_end) {
  MutexLock lock(mutex_);
  if (stopped_) return false;  // what serves them is being destroyed
  const Session* idlest = nullptr;
  int64_t used_ns = before_ns;
  for (const auto& [number, session] : sessions_) {
    int64_t last_ns = 0;
    for (const Session::Member& each : session.members) {
      last_ns = std::max(last_ns, each.responder->used_ns());
    }
    if (last_ns >= used_ns) continue;
    const Responder& one = *session.members.front().responder;
    if (!may_end(one.peer(), one.hello())) continue;
    idlest = &session;
    used_ns = last_ns;
  }
  if (idlest == nullptr) return false;
  for (const Session::Member& each : idlest->members) {
    each.worker->end_later_if_idle(each.responder, before_ns);
  }
  return true;
}

Result<Bytes> TcpTransport::accept(const Bytes& hello, Rights) {
  const Result<Retire> retire = Retire::decode(as_bytes(hello));
  if (!retire.ok()) return retire.status();
  // Those that come later have not been answered, so their peer has sent no request.
  const auto carries = [this, &retire]() TE_REQUIRES(mutex_) {
    const auto found = sessions_.find(retire->session);
    return found != sessions_.end() &&
           std::any_of(found->second.members.begin(), found->second.members.end(),
                       [&](const Session::Member& each) { return each.epoch <= retire->epoch; });
  };
  MutexLock lock(mutex_);
  if (const auto found = sessions_.find(retire->session); found != sessions_.end()) {
    for (const Session::Member& each : found->second.members) {
      if (each.epoch <= retire->epoch) each.worker->end_later(each.responder);
    }
  }
  const auto until = std::chrono::steady_clock::now() + kRetireLimit;
  while (!stopped_ && carries() && left_.wait_until(mutex_, until)) {
  }
  if (!carries()) return Bytes();
  return Status(Code::kBusy, "tcp: the session's connections are not closed yet");
}

void TcpTransport::check_paths() {
  std::vector<std::shared_ptr<TcpPath>> paths;
  {
    MutexLock lock(mutex_);
    for (const std::weak_ptr<TcpPath>& weak : paths_) {
      if (std::shared_ptr<TcpPath> path = weak.lock()) paths.push_back(std::move(path));
    }
  }
  for (const std::shared_ptr<TcpPath>& path : paths) path->check_alive();
}

void TcpTransport::stop() {
  std::vector<std::weak_ptr<TcpPath>> paths;
  {
    MutexLock lock(mutex_);
    if (stopped_) return;
    stopped_ = true;
    paths.swap(paths_);
    left_.notify_all();
  }
  for (const std::weak_ptr<TcpPath>& weak : paths) {
    if (const std::shared_ptr<TcpPath> path = weak.lock()) {
      run_persistently([&path] { path->end(); });
    }
  }
  // Lanes wait on their loops until the kernel reads no memory any more.
  zero_copy_totals_->wait_until_none_open();
  if (zero_copy_totals_->sends > 0 || zero_copy_totals_->refused > 0) {
    log_debug(
        "tcp: {} sends without a copy, of which the kernel copied {}; {} refused; {} connections "
        "found it to pay",
        zero_copy_totals_->sends, zero_copy_totals_->copied, zero_copy_totals_->refused,
        zero_copy_totals_->kept);
  }
  for (const std::unique_ptr<Worker>& worker : workers_) worker->loop().stop();
  for (const std::unique_ptr<Worker>& worker : workers_) worker->clear();
}

}  // namespace
}  // namespace tcp

constexpr TransportFactory kTcpFactory{
    .names = "tcp",
    .settings = tcp::kSettings,
    .makes = [](std::string_view name) { return name == "tcp"; },
    .make = [](const TransportSetup& setup) -> Result<std::unique_ptr<Transport>> {
      auto transport = std::make_unique<tcp::TcpTransport>(setup.host, setup.config);
      TE_RETURN_IF_ERROR(transport->start());
      return std::unique_ptr<Transport>(std::move(transport));
    },
    .describe = [](const Config&) -> std::vector<TransportInfo> {
      return {{"tcp", true, false, "the kernel's TCP, IPv4 and IPv6"}};
    }};

}  // namespace te
