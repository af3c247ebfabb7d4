#include "transport/shm/shm.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <optional>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "transport/copy_transport.h"
#include "transport/shm/path.h"
#include "transport/shm/responder.h"
#include "transport/shm/warned.h"

namespace te {
namespace shm {
namespace {

class ShmTransport final : public CopyTransport {
 public:
  ShmTransport(TransportHost& host, const Config& config)
      : CopyTransport(
            host, config.number(kCopyThreads), RangeKey::kSize,
            [](Slice* run, CopyWay way) { static_cast<ShmPath*>(run->path)->copy(run, way); }),
        config_(config) {}
  ~ShmTransport() override { stop(); }
  Status start();

  std::string_view name() const override { return "shm"; }
  Capabilities capabilities() const override {
    Capabilities capabilities = CopyTransport::capabilities();
    capabilities.reach.local.add(MemoryKind::kCuda);
    capabilities.reach.remote.add(MemoryKind::kCuda);
    return capabilities;
  }

  Result<Bytes> register_memory(const Buffer& buffer) override;
  void unregister_memory(const Buffer& buffer) override;
  Status await_quiet(const Buffer& buffer, int64_t until_ns) override;

  Bytes info() const override { return advertisement_.encode(); }
  std::vector<std::shared_ptr<Path>> make_paths(const Peer& peer, ByteView info) override;
  void stop() override;

 private:
  static std::optional<RangeKey> key_of(const Buffer& buffer) {
    const auto found = buffer.keys.find("shm");
    if (found == buffer.keys.end() || found->second.size() != RangeKey::kSize) return std::nullopt;
    return RangeKey::decode(as_bytes(found->second).data());
  }

  const Config& config_;
  Warned warned_;
  Advertisement advertisement_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<RangeTable> table_;
  std::unique_ptr<BlockTable> blocks_;
  std::unique_ptr<Responder> responder_;
};

Status ShmTransport::start() {
  advertisement_.token = random_bytes16();
  for (size_t i = 0; i < advertisement_.cookie.size(); i += 16) {
    const std::array<uint8_t, 16> part = random_bytes16();
    std::copy(part.begin(), part.end(), advertisement_.cookie.begin() + static_cast<ptrdiff_t>(i));
  }
  Result<std::unique_ptr<EventLoop>> loop = EventLoop::create("te-shm");
  if (!loop.ok()) return loop.status();
  loop_ = loop.take();
  Result<std::unique_ptr<RangeTable>> table = RangeTable::create();
  if (!table.ok()) return table.status();
  table_ = table.take();
  blocks_ = std::make_unique<BlockTable>(*table_);
  responder_ = std::make_unique<Responder>(*loop_, *table_, *blocks_, advertisement_, config_);
  TE_RETURN_IF_ERROR(responder_->listen(host_.instance()));
  TE_RETURN_IF_ERROR(loop_->start());
  return pool_.start();
}

Result<Bytes> ShmTransport::register_memory(const Buffer& buffer) {
  const Result<RangeKey> key =
      buffer.device == nullptr ? table_->add(buffer) : blocks_->add(buffer);
  if (key.ok()) return key->encode();
  if (key.code() == Code::kUnsupported) {
    warn_once(fmt::format(
        "processes of this host do not reach memory of {}, which is staged in host memory: {}",
        buffer.location, key.status().message()));
  }
  // Beyond what the table holds, too, buffers are reached another way.
  return Bytes();
}

void ShmTransport::unregister_memory(const Buffer& buffer) {
  const std::optional<RangeKey> key = key_of(buffer);
  if (!key) return;
  const bool is_mapped = key->way == Way::kMapped;
  const bool any =
      key->way == Way::kOpened ? blocks_->remove(*key) : table_->remove(*key) && is_mapped;
  if (any) responder_->release();
}

Status ShmTransport::await_quiet(const Buffer& buffer, int64_t until_ns) {
  const std::optional<RangeKey> key = key_of(buffer);
  if (!key) return {};
  TE_RETURN_IF_ERROR(responder_->wait_until_unused(key->index, until_ns));
  table_->release(*key);
  if (key->way == Way::kOpened) responder_->wait_until_released();
  return {};
}

std::vector<std::shared_ptr<Path>> ShmTransport::make_paths(const Peer& peer, ByteView info) {
  if (peer.self || peer.key_size != RangeKey::kSize) return {};
  Result<Advertisement> advertisement = Advertisement::decode(info);
  Status status = advertisement.status();
  if (status.ok()) {
    Result<std::shared_ptr<Link>> link = Link::connect(
        *loop_, peer.instance, *advertisement, static_cast<int64_t>(config_.connect_timeout_ms),
        [&host = host_](const Mapping& memory) { host.unpin(memory.data(), memory.size()); });
    status = link.status();
    if (status.code() == Code::kNotFound) return {};
    if (status.ok()) {
      auto path =
          std::make_shared<ShmPath>(*this, peer.to_string(), host_, pool_, link.take(), warned_);
      status = path->watch();
      if (status.ok()) return {path};
    }
  }
  // A user sees why once for each peer; what repeats is for whoever looks for it.
  static LogLimit limit;
  if (warned_.add(peer.to_string())) {
    log_warning("shm: not used to {}: {}", peer.to_string(), status.message());
  } else {
    log_limited(limit, LogLevel::kInfo, "shm: not used to {}: {}", peer.to_string(),
                status.message());
  }
  return {};
}

void ShmTransport::stop() {
  if (responder_ == nullptr) return;
  pool_.stop();
  // Peers lose this way at once, and nothing of this process is touched after that.
  table_->close();
  const int64_t until =
      deadline_after_ms(now_ns(), static_cast<int64_t>(config_.unregister_timeout_ms));
  if (Status status = responder_->wait_until_unused(until); !status.ok()) {
    log_error("shm: {}; what was registered here may change when it goes on", status.message());
  }
  responder_->release();
  responder_->wait_until_released();
  loop_->stop();
  responder_->close();
}

}  // namespace
}  // namespace shm

namespace {

// Each process at the other end of a socket is known by one.
Status check_pidfd() {
  const Fd own(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (own.valid()) return {};
  return error(Code::kUnsupported,
               "pidfd_open says {}; it takes Linux 5.3, and a seccomp filter that allows it",
               errno_text(errno));
}

// How this machine lets processes share memory. False: `*how` says what is missing.
bool is_available(std::string* how) {
  Status missing = check_pidfd();
  if (missing.ok())
    missing = MemoryFile::create("transfer-engine-probe", shm::kTableBytes).status();
  if (!missing.ok()) {
    *how = fmt::format("absent: {}", missing.message());
    return false;
  }
  constexpr std::string_view kRest =
      "; only memory that the engine allocated is shared, other memory goes another way";
  char from = 'x', to = 0;
  iovec source{&from, 1}, target{&to, 1};
  if (::process_vm_readv(::getpid(), &target, 1, &source, 1, 0) != 1) {
    *how = fmt::format("process_vm_readv says {}: a seccomp filter forbids it{}", errno_text(errno),
                       kRest);
    return true;
  }
  std::string yama;
  std::getline(std::ifstream("/proc/sys/kernel/yama/ptrace_scope") >> std::ws, yama);
  if (!yama.empty() && yama != "0") {
    *how = fmt::format(
        "kernel.yama.ptrace_scope is {}: processes may touch each other's memory "
        "only as root{}",
        yama, kRest);
    return true;
  }
  *how = "processes of this host, of the same user: mapped memory, and process_vm_readv and writev";
  return true;
}

}  // namespace

constexpr TransportFactory kShmFactory{
    .names = "shm",
    .settings = kCopySettings,
    .makes = [](std::string_view name) { return name == "shm"; },
    .make = [](const TransportSetup& setup) -> Result<std::unique_ptr<Transport>> {
      TE_RETURN_IF_ERROR(check_pidfd());
      auto transport = std::make_unique<shm::ShmTransport>(setup.host, setup.config);
      TE_RETURN_IF_ERROR(transport->start());
      return std::unique_ptr<Transport>(std::move(transport));
    },
    .describe = [](const Config&) -> std::vector<TransportInfo> {
      TransportInfo info{"shm", false, false, {}};
      info.available = is_available(&info.detail);
      return {info};
    }};

}  // namespace te
