// NICs, the rails between them and those of peers, and their progress threads.
#include "transport/rdma/rdma.h"

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "transport/rails/rail_transport.h"
#include "transport/rdma/devices.h"
#include "transport/rdma/engine.h"
#include "transport/rdma/responder.h"
#include "transport/rdma/settings.h"

namespace te {
namespace rdma {
namespace {

constexpr size_t kMakers = 16;  // finding the way to a dead NIC may take each a second
constexpr uint64_t kLargestSlice = 64 << 20;  // so that its operations fit a queue pair
// Of GPUs the buffers that some NIC registered.
constexpr Reach kReach{.local = {MemoryKind::kHost, MemoryKind::kCuda},
                       .remote = {MemoryKind::kHost, MemoryKind::kCuda}};

// One NIC and its progress thread. The first one's serves what peers connected, too.
class NicWorker final : private ProgressWork {
 public:
  NicWorker(TransportHost& host, VerbsNic& nic, size_t index, const rails::MemoryRegions& memories,
            const EngineOptions& options, TaskPool& making, Responder* serving)
      : engine(host, nic, index, memories, options, making, [this] { thread_.wake(); }),
        responder_(serving),
        thread_(*this, options.spin_ns) {}
  ~NicWorker() override { stop(); }

  Status start() { return thread_.start("te-rdma"); }
  void stop() { thread_.stop(); }

  VerbsEngine engine;

 private:
  void look(bool before_sleep, Look& look) override {
    engine.progress().look(before_sleep, look);
    if (responder_ != nullptr) look.come_at(responder_->attend(now_ns()));
    if (before_sleep && engine.nic().present()) look.listen(engine.nic().event_descriptor());
  }
  bool wanted() const override { return engine.progress().wanted(); }
  bool take_events() override {
    engine.nic().take_completion_events();
    const VerbsNic::News news = engine.nic().take_events();
    if (news.came_up || news.went_down) engine.nic_changed(news);
    return news.any;
  }

  Responder* const responder_;
  ProgressThread thread_;
};

class RdmaTransport final : public rails::RailTransport {
 public:
  RdmaTransport(TransportHost& host, const Config& config) : RailTransport(host), config_(config) {}
  ~RdmaTransport() override { stop(); }

  Status start(const TransportSetup& setup);

  std::string_view name() const override { return kName; }
  Capabilities capabilities() const override {
    return {.slice_bytes = kLargestSlice,
            .registers_local_memory = true,
            .reach = kReach,
            .key_size = advertisement_.key_size()};
  }
  std::vector<DeviceLoad> loads() const override;
  Bytes info() const override { return advertisement_.encode(); }
  std::vector<std::shared_ptr<Path>> make_paths(const Peer& peer, ByteView info) override;
  Result<Bytes> accept(const Bytes& hello, Rights) override {
    return responder_->accept(as_bytes(hello));
  }
  void stop() override;

 private:
  const Config config_;
  rails::Advertisement advertisement_;
  std::vector<std::unique_ptr<VerbsNic>> nics_;
  std::unique_ptr<Responder> responder_;
  TaskPool making_{kMakers};  // of queue pairs
  std::vector<std::unique_ptr<NicWorker>> workers_;
  std::atomic<bool> stopping_{false};
};

// All NICs, in the order in which the matrix prefers them: those that it names, each once.
std::vector<std::string> devices_of(const NicMatrix& matrix) {
  std::vector<std::string> devices;
  for (const bool preferred : {true, false}) {
    for (const NicMatrix::Row& row : matrix.rows) {
      for (const std::string& name : preferred ? row.preferred : row.other) {
        if (std::find(devices.begin(), devices.end(), name) == devices.end()) {
          devices.push_back(name);
        }
      }
    }
  }
  return devices;
}

Status RdmaTransport::start(const TransportSetup& setup) {
  const Result<const Library*> library = Library::open(config_.text(kLibrary));
  if (!library.ok()) return library.status();
  const Result<NicMatrix> matrix = setup.nic_matrix();
  if (!matrix.ok()) return matrix.status();
  Result<std::vector<std::unique_ptr<VerbsNic>>> found = open_nics(**library, devices_of(*matrix));
  if (!found.ok()) return found.status();
  nics_ = found.take();
  std::vector<VerbsNic*> nics;
  std::vector<std::string> names;
  for (const std::unique_ptr<VerbsNic>& nic : nics_) {
    nics.push_back(nic.get());
    names.push_back(nic->device());
    advertisement_.nics.push_back(
        {nic->device(), nic->bytes_per_s(), NicAddress{nic->infiniband()}.encode()});
    log_info("rdma: {}, {}", nic->state_text(), (*library)->path());
  }
  advertisement_.pieces = rails::Key::most_pieces(nics.size());
  memories_ = std::make_unique<rails::MemoryRegions>(
      std::vector<rails::Nic*>(nics.begin(), nics.end()),
      NicAffinity(*matrix, names, setup.nodes_of), advertisement_.pieces,
      config_.number(kMaxRegistration));
  responder_ = std::make_unique<Responder>(nics, config_.number(kInboundEndpoints));
  TE_RETURN_IF_ERROR(responder_->start());
  TE_RETURN_IF_ERROR(making_.start());
  const EngineOptions options{static_cast<int64_t>(config_.number(kSpin)) * 1000,
                              static_cast<int64_t>(config_.connect_timeout_ms),
                              std::max<size_t>(config_.number(kEndpoints) / nics.size(), 1)};
  for (size_t i = 0; i < nics.size(); ++i) {
    workers_.push_back(std::make_unique<NicWorker>(host_, *nics[i], i, *memories_, options, making_,
                                                   i == 0 ? responder_.get() : nullptr));
    TE_RETURN_IF_ERROR(workers_.back()->start());
  }
  return {};
}

std::vector<DeviceLoad> RdmaTransport::loads() const {
  std::vector<DeviceLoad> result;
  for (const std::unique_ptr<VerbsNic>& nic : nics_) {
    result.push_back({nic->device(), nic->rate().queued_bytes(), 0});
  }
  return result;
}

std::vector<std::shared_ptr<Path>> RdmaTransport::make_paths(const Peer& peer, ByteView info) {
  const std::shared_ptr<const rails::Advertisement> advertisement = decode_offer(peer, info);
  if (!advertisement) return {};
  const Result<std::vector<NicAddress>> addresses = decode_addresses(*advertisement);
  if (!addresses.ok()) {
    warn_of(peer, addresses.status());
    return {};
  }
  end_earlier_runs(peer);
  std::vector<std::shared_ptr<Path>> result;
  std::vector<bool> firsts;
  for (size_t local = 0; local < nics_.size(); ++local) {
    // Their first choices are spread over the peer's NICs.
    bool first = true;
    for (size_t shift = 0; shift < advertisement->nics.size(); ++shift) {
      const size_t remote = (local + shift) % advertisement->nics.size();
      if ((*addresses)[remote].infiniband != nics_[local]->infiniband()) continue;
      result.push_back(make_path(std::make_shared<VerbsRail>(*this, workers_[local]->engine,
                                                             nics_[local]->device(), advertisement,
                                                             peer, local, remote)));
      firsts.push_back(std::exchange(first, false));
    }
  }
  join(result, firsts, {.local_memory = memories_.get(), .reconnects = true});
  return result;
}

void RdmaTransport::stop() {
  if (stopping_.exchange(true)) return;
  for (const std::unique_ptr<NicWorker>& worker : workers_) worker->stop();
  close_rails();
  for (const std::unique_ptr<NicWorker>& worker : workers_) worker->engine.begin_stop();
  // Queue pairs that are being made, or closed, are somebody else's until the pool ends.
  making_.stop();
  for (const std::unique_ptr<NicWorker>& worker : workers_) {
    worker->engine.stop();
    const VerbsEngine::Counters counters = worker->engine.counters();
    log_debug("rdma: {}: {} work requests, {} ended; {} connections, {} evicted, {} at most",
              worker->engine.nic().device(), counters.posted, counters.ended, counters.connected,
              counters.evicted, counters.most_alive);
    if (counters.posted != counters.ended) {
      log_error("rdma: {}: {} of {} work requests vanished", worker->engine.nic().device(),
                counters.posted - counters.ended, counters.posted);
    }
  }
  if (responder_) responder_->stop();
  if (memories_) memories_->clear();
}

}  // namespace
}  // namespace rdma

constexpr TransportFactory kRdmaFactory{
    .names = rdma::kName,
    .settings = rdma::kSettings,
    .makes = [](std::string_view name) { return name == rdma::kName; },
    .make = [](const TransportSetup& setup) -> Result<std::unique_ptr<Transport>> {
      auto transport = std::make_unique<rdma::RdmaTransport>(setup.host, setup.config);
      TE_RETURN_IF_ERROR(transport->start(setup));
      return std::unique_ptr<Transport>(std::move(transport));
    },
    .describe = [](const Config& config) -> std::vector<TransportInfo> {
      TransportInfo info;
      info.name = rdma::kName;
      const Result<const rdma::Library*> library = rdma::Library::open(config.text(rdma::kLibrary));
      info.detail = library.ok() ? rdma::describe_devices(**library, &info.available)
                                 : library.status().message();
      return {info};
    },
    .over_fabric = true};

}  // namespace te
