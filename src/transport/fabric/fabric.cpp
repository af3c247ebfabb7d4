// NICs, and the paths between them and those of peers.
#include "transport/fabric/fabric.h"

#include <rdma/fi_errno.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <thread>
#include <tuple>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/socket.h"
#include "transport/fabric/nic.h"
#include "transport/fabric/provider.h"
#include "transport/fabric/settings.h"
#include "transport/rails/rail_transport.h"

namespace te {
namespace fabric {
namespace {

constexpr size_t kDescriptors = 8;  // of one connected endpoint, over sockets, or a few less
constexpr size_t kMostEndpoints = 256;
constexpr int64_t kQuietNs = 200 * kNsPerMs;  // at the end, for operations to complete

// Of one NIC: those that peers reach, and as many again. They take half of the descriptors.
size_t most_endpoints(size_t nics) {
  rlimit limit{};
  const bool known = ::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  const size_t descriptors = known ? limit.rlim_cur : 1 << 20;
  return std::clamp<size_t>(descriptors / 2 / kDescriptors / 2 / nics, 2, kMostEndpoints);
}

class FabricTransport final : public rails::RailTransport {
 public:
  FabricTransport(TransportHost& host, const Config& config, std::string_view name)
      : RailTransport(host), config_(config), name_(name) {}
  ~FabricTransport() override { stop(); }

  Status start(const NicMatrix& matrix);

  std::string_view name() const override { return name_; }
  Capabilities capabilities() const override {
    return {.same_engine_only = false,
            .data_over_engine_port = false,
            .registers_local_memory = local_registration_,
            .reach = reach_,
            .key_size = advertisement_.key_size()};
  }
  std::vector<DeviceLoad> loads() const override;
  Bytes info() const override { return advertisement_.encode(); }
  std::vector<std::shared_ptr<Path>> make_paths(const Peer& peer, ByteView info) override;
  Result<Bytes> accept(const Bytes& hello, Rights rights) override;
  void stop() override;

 private:
  Status open_nics(const Library& library, std::vector<NicInfo> found, const NicMatrix& matrix);
  bool reaches(const NicAddress& mine, const NicAddress& theirs, bool here) const;
  std::shared_ptr<Path> make_rail(size_t local,
                                  const std::shared_ptr<const rails::Advertisement>& advertisement,
                                  const Advertised& details, size_t remote, const Peer& peer);

  // By the peer's run, the NIC here and the NIC there.
  using Place = std::tuple<uint64_t, size_t, size_t>;
  std::shared_ptr<Identity> take_identity(const Place& place) TE_REQUIRES(mutex_);

  void report(FabricNic& nic);

  const Config config_;
  const std::string name_;
  rails::Advertisement advertisement_;
  Advertised own_;  // the driver's part
  bool local_registration_ = false;
  Reach reach_;  // the buffers of GPUs that a provider registered, if it has FI_HMEM
  std::vector<std::unique_ptr<FabricNic>> nics_;
  std::atomic<bool> stopping_{false};
  mutable Mutex mutex_{LockRank::kTransport};
  std::map<Place, std::vector<std::shared_ptr<Identity>>> free_identities_ TE_GUARDED_BY(mutex_);
};

Status FabricTransport::open_nics(const Library& library, std::vector<NicInfo> found,
                                  const NicMatrix& matrix) {
  if (found.size() > rails::Key::kMaxNics) found.resize(rails::Key::kMaxNics);
  const fi_info& first = *found.front().info;
  own_.provider = {first.fabric_attr->prov_name, first.ep_attr->protocol, first.addr_format, false};
  const size_t most = most_endpoints(found.size());
  const int64_t spin_ns = static_cast<int64_t>(config_.number(kSpin)) * 1000;
  std::vector<rails::Nic*> domains;
  std::vector<std::string> names;
  for (NicInfo& each : found) {
    Result<std::unique_ptr<Domain>> domain = Domain::open(library, std::move(each));
    if (!domain.ok()) return domain.status();
    FabricNic& nic = *nics_.emplace_back(std::make_unique<FabricNic>(domain.take(), most, spin_ns));
    domains.push_back(&nic.domain());
    if (nic.domain().device_memory()) {
      reach_.local.add(MemoryKind::kCuda);
      reach_.remote.add(MemoryKind::kCuda);
    }
    names.push_back(nic.domain().nic());
    TE_RETURN_IF_ERROR(nic.open(host_.instance()));
    own_.nics.push_back(nic.address());
    advertisement_.nics.push_back(
        {nic.domain().device(), nic.domain().bytes_per_s(), own_.nics.back().encode()});
  }
  const Domain& domain = nics_.front()->domain();
  own_.provider.virtual_addresses = domain.virtual_addresses();
  advertisement_.driver = own_.provider.encode();
  local_registration_ = domain.local_registration();
  advertisement_.pieces = rails::Key::most_pieces(nics_.size());
  memories_ = std::make_unique<rails::MemoryRegions>(domains, NicAffinity(matrix, names, {}),
                                                     advertisement_.pieces,
                                                     config_.number(kMaxRegistration));
  const EngineOptions options{spin_ns, static_cast<int64_t>(config_.connect_timeout_ms),
                              static_cast<int64_t>(config_.stall_timeout_ms),
                              config_.number(kMaxOperation), nics_.front()->responders().depth()};
  for (size_t i = 0; i < nics_.size(); ++i) {
    TE_RETURN_IF_ERROR(nics_[i]->start(host_, *memories_, i, options));
  }
  return {};
}

Status FabricTransport::start(const NicMatrix& matrix) {
  const Result<const Library*> library = Library::open(config_.text(kLibrary));
  if (!library.ok()) return library.status();
  Result<std::vector<NicInfo>> found =
      find_nics(**library, provider_of(name_), config_, host_.asked_address());
  if (!found.ok()) return found.status();
  TE_RETURN_IF_ERROR(open_nics(**library, found.take(), matrix));
  if (!local_registration_ && !survives_lost_memory(own_.provider.name)) {
    warn_once(fmt::format(
        "{}: this provider copies in user space: memory that an application unmaps, protects or "
        "truncates before it unregisters it ends the process; fabric:tcp and tcp survive that",
        name_));
  }
  for (const std::unique_ptr<FabricNic>& nic : nics_) {
    log_info("{}: {} on {}, {}", name_, own_.provider.name, nic->domain().device(),
             (*library)->description());
  }
  return {};
}

std::vector<DeviceLoad> FabricTransport::loads() const {
  std::vector<DeviceLoad> result;
  for (const std::unique_ptr<FabricNic>& nic : nics_) {
    result.push_back({nic->domain().device(), 0, 0});
  }
  for (const std::shared_ptr<rails::Rail>& path : all_rails()) {
    for (DeviceLoad& load : result) {
      if (load.device == path->local_device) load.inflight_bytes += path->inflight_bytes;
    }
  }
  return result;
}

// Whether two NICs can talk: addresses of one family, and a loopback address only where the peer
// is `here`, on this host: from another host it leads elsewhere.
bool FabricTransport::reaches(const NicAddress& mine, const NicAddress& theirs, bool here) const {
  if (own_.provider.address_format == FI_ADDR_STR) return true;
  if (mine.name.size() != theirs.name.size()) return false;
  const uint32_t format = own_.provider.address_format;
  if (format != FI_SOCKADDR_IN && format != FI_SOCKADDR_IN6) return true;
  SocketAddress from, to;
  if (mine.name.size() > sizeof from.storage) return false;
  std::memcpy(&from.storage, mine.name.data(), mine.name.size());
  std::memcpy(&to.storage, theirs.name.data(), theirs.name.size());
  if (from.storage.ss_family != to.storage.ss_family) return false;
  return here || (!is_loopback(from.get()) && !is_loopback(to.get()));
}

std::shared_ptr<Path> FabricTransport::make_rail(
    size_t local, const std::shared_ptr<const rails::Advertisement>& advertisement,
    const Advertised& details, size_t remote, const Peer& peer) {
  const Place place(peer.instance, local, remote);
  std::shared_ptr<FabricRail> rail;
  {
    MutexLock lock(mutex_);
    Result<std::shared_ptr<FabricEngine>> engine = nics_[local]->find_engine();
    if (!engine.ok()) {
      static LogLimit limit;
      log_limited(limit, LogLevel::kWarning, "{}: {}", name_, engine.status().message());
      return nullptr;
    }
    rail = std::make_shared<FabricRail>(*this, engine.take(), nics_[local]->domain().device(),
                                        advertisement, details, peer, local, remote,
                                        take_identity(place));
  }
  return make_path(rail, [this, place, identity = rail->shared_identity()] {
    MutexLock lock(mutex_);
    free_identities_[place].push_back(identity);
  });
}

std::shared_ptr<Identity> FabricTransport::take_identity(const Place& place) {
  std::vector<std::shared_ptr<Identity>>& free = free_identities_[place];
  if (free.empty()) {
    auto made = std::make_shared<Identity>();
    made->id = random_u64();
    return made;
  }
  std::shared_ptr<Identity> identity = std::move(free.back());
  free.pop_back();
  return identity;
}

Result<Bytes> FabricTransport::accept(const Bytes& bytes, Rights) {
  const Result<Hello> hello = Hello::decode(as_bytes(bytes));
  if (!hello.ok()) return hello.status();
  if (hello->nic >= nics_.size()) {
    return error(Code::kProtocol, "{}: there is no NIC {}: there are {}", name_, hello->nic,
                 nics_.size());
  }
  if (hello->type != Hello::Type::kTouch) return nics_[hello->nic]->responders().accept(*hello);
  Bytes answer;
  for (const Hello::Range& range : hello->ranges) {
    const bool may =
        memories_->may_touch(hello->nic, range.key, range.address, range.length, range.write);
    answer += may ? '\1' : '\0';
  }
  return answer;
}

std::vector<std::shared_ptr<Path>> FabricTransport::make_paths(const Peer& peer, ByteView info) {
  const std::shared_ptr<const rails::Advertisement> advertisement = decode_offer(peer, info);
  if (!advertisement) return {};
  const Result<Advertised> details = Advertised::decode(*advertisement);
  if (!details.ok()) {
    warn_of(peer, details.status());
    return {};
  }
  if (!details->provider.talks_to(own_.provider)) {
    static LogLimit limit;
    log_limited(limit, LogLevel::kInfo,
                "{}: the peer at {} has provider {}, this side {}: they do not talk", name_,
                peer.to_string(), details->provider.name, own_.provider.name);
    return {};
  }
  end_earlier_runs(peer);
  const bool here = is_local_address(peer.address);
  std::vector<std::shared_ptr<Path>> result;
  std::vector<bool> firsts;
  for (size_t shift = 0; shift < advertisement->nics.size(); ++shift) {
    for (size_t local = 0; local < nics_.size(); ++local) {
      const size_t remote = (local + shift) % advertisement->nics.size();
      if (!reaches(own_.nics[local], details->nics[remote], here)) continue;
      std::shared_ptr<Path> rail = make_rail(local, advertisement, *details, remote, peer);
      if (!rail) continue;
      result.push_back(std::move(rail));
      // Each NIC here with one there makes use of all of them.
      firsts.push_back(local % advertisement->nics.size() == remote ||
                       remote % nics_.size() == local);
    }
  }
  join(result, firsts, {.local_memory = local_registration_ ? memories_.get() : nullptr});
  return result;
}

void FabricTransport::report(FabricNic& nic) {
  const FabricEngine::Counters counters = nic.counters();
  log_debug("{}: {}: {} operations: {} completed, {} failed, {} ended with the endpoint", name_,
            nic.domain().device(), counters.posted, counters.completed, counters.failed,
            counters.ended);
  if (counters.posted != counters.completed + counters.failed + counters.ended) {
    log_error("{}: {}: {} of {} operations vanished", name_, nic.domain().device(),
              counters.posted - counters.completed - counters.failed - counters.ended,
              counters.posted);
  }
}

void FabricTransport::stop() {
  if (stopping_.exchange(true)) return;
  for (const std::unique_ptr<FabricNic>& nic : nics_) nic->stop_thread();
  close_rails();
  for (const std::unique_ptr<FabricNic>& nic : nics_) nic->begin_stop();
  const int64_t until_ns = now_ns() + kQuietNs;
  for (const std::unique_ptr<FabricNic>& nic : nics_) {
    nic->stop_engines(until_ns);
    report(*nic);
  }
  if (memories_) memories_->clear();
  for (const std::unique_ptr<FabricNic>& nic : nics_) nic->stop();
}

}  // namespace
}  // namespace fabric

constexpr TransportFactory kFabricFactory{
    .names = "efa, fabric:PROVIDER",
    .settings = fabric::kSettings,
    .makes = [](std::string_view name) { return !fabric::provider_of(name).empty(); },
    .make = [](const TransportSetup& setup) -> Result<std::unique_ptr<Transport>> {
      // Without a topology no NIC is near anything, which is no reason to have none.
      const Result<NicMatrix> matrix = setup.nic_matrix();
      if (!matrix.ok()) {
        if (setup.matrix_is_given) return matrix.status();
        log_warning("{}: {}", setup.name, matrix.status().message());
      }
      auto transport =
          std::make_unique<fabric::FabricTransport>(setup.host, setup.config, setup.name);
      TE_RETURN_IF_ERROR(transport->start(matrix.ok() ? *matrix : NicMatrix()));
      return std::unique_ptr<Transport>(std::move(transport));
    },
    .describe = fabric::describe,
    .over_fabric = true};

}  // namespace te
