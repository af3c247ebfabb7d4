// NICs, the rails between them and those of peers, and their progress threads.
#include "transport/rdma/rdma.h"

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "transport/rails/rail_transport.h"
#include "transport/rdma/devices.h"
#include "transport/rdma/engine.h"
#include "transport/rdma/serving.h"
#include "transport/rdma/settings.h"

namespace te {
namespace rdma {
namespace {

constexpr size_t kMakers = 16;  // finding the way to a dead NIC may take each a second
constexpr uint64_t kLargestSlice = 64 << 20;  // so that its operations fit a queue pair

// One NIC and its progress thread. The first one's serves what peers connected, too.
class NicProgress final : private ProgressWork {
 public:
  NicProgress(TransportHost& host, Card& card, size_t index, const rails::MemoryRegions& memories,
              const EngineOptions& options, TaskPool& making, Serving* serving)
      : engine(host, card, index, memories, options, making, [this] { thread_.wake(); }),
        serving_(serving),
        thread_(*this, options.spin_ns) {}
  ~NicProgress() override { stop(); }

  Status start() { return thread_.start("te-rdma"); }
  void stop() { thread_.stop(); }

  VerbsEngine engine;

 private:
  void look(bool before_sleep, Look& look) override {
    engine.progress().look(before_sleep, look);
    if (serving_ != nullptr) look.come_at(serving_->attend(now_ns()));
    if (before_sleep && !engine.card().gone()) look.listen(engine.card().event_descriptor());
  }
  bool wanted() const override { return engine.progress().wanted(); }
  bool take_events() override {
    engine.card().take_completion_events();
    const Card::News news = engine.card().take_events();
    if (news.came_up || news.went_down) engine.card_changed(news);
    return news.any;
  }

  Serving* const serving_;
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
            .key_size = offer_.key_size()};
  }
  std::vector<DeviceLoad> loads() const override;
  Bytes info() const override { return offer_.encode(); }
  std::vector<std::shared_ptr<Path>> make_paths(const Peer& peer, ByteView info) override;
  Result<Bytes> accept(const Bytes& hello) override { return serving_->accept(as_bytes(hello)); }
  void stop() override;

 private:
  const Config config_;
  Offer offer_;
  std::vector<std::unique_ptr<Card>> cards_;
  std::unique_ptr<Serving> serving_;
  TaskPool making_{kMakers};  // of queue pairs
  std::vector<std::unique_ptr<NicProgress>> nics_;
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
  Result<std::vector<std::unique_ptr<Card>>> found = open_cards(**library, devices_of(*matrix));
  if (!found.ok()) return found.status();
  cards_ = found.take();
  std::vector<Card*> cards;
  std::vector<std::string> names;
  for (const std::unique_ptr<Card>& card : cards_) {
    cards.push_back(card.get());
    names.push_back(card->device());
    offer_.cards.push_back({card->device(), card->infiniband()});
    log_info("rdma: {}, {}", card->state_text(), (*library)->path());
  }
  offer_.pieces = Key::most_pieces(cards.size());
  memories_ = std::make_unique<rails::MemoryRegions>(
      std::vector<rails::Nic*>(cards.begin(), cards.end()),
      Nearness(*matrix, names, setup.nodes_of), offer_.pieces, config_.number(kMaxRegistration));
  serving_ = std::make_unique<Serving>(cards, config_.number(kInboundEndpoints));
  TE_RETURN_IF_ERROR(serving_->start());
  TE_RETURN_IF_ERROR(making_.start());
  const EngineOptions options{static_cast<int64_t>(config_.number(kSpin)) * 1000,
                              static_cast<int64_t>(config_.connect_timeout_ms),
                              std::max<size_t>(config_.number(kEndpoints) / cards.size(), 1)};
  for (size_t i = 0; i < cards.size(); ++i) {
    nics_.push_back(std::make_unique<NicProgress>(host_, *cards[i], i, *memories_, options, making_,
                                                  i == 0 ? serving_.get() : nullptr));
    TE_RETURN_IF_ERROR(nics_.back()->start());
  }
  return {};
}

std::vector<DeviceLoad> RdmaTransport::loads() const {
  std::vector<DeviceLoad> result;
  for (const std::unique_ptr<Card>& card : cards_) {
    result.push_back({card->device(), card->pipe().queued_bytes(), 0});
  }
  return result;
}

std::vector<std::shared_ptr<Path>> RdmaTransport::make_paths(const Peer& peer, ByteView info) {
  Result<Offer> decoded = Offer::decode(info);
  if (!decoded.ok() || decoded->key_size() != peer.key_size) {
    static LogLimit limit;
    log_limited(limit, LogLevel::kWarning, "rdma: what the peer at {} offers cannot be understood",
                peer.address.to_string());
    return {};
  }
  const auto offer = std::make_shared<const Offer>(decoded.take());
  end_earlier_runs(peer);
  std::vector<std::shared_ptr<Path>> result;
  std::vector<bool> firsts;
  for (size_t local = 0; local < cards_.size(); ++local) {
    // Their first choices are spread over the peer's NICs.
    bool first = true;
    for (size_t shift = 0; shift < offer->cards.size(); ++shift) {
      const size_t remote = (local + shift) % offer->cards.size();
      if (offer->cards[remote].infiniband != cards_[local]->infiniband()) continue;
      result.push_back(make_path(std::make_shared<VerbsRail>(
          *this, nics_[local]->engine, cards_[local]->device(), offer, peer, local, remote)));
      firsts.push_back(std::exchange(first, false));
    }
  }
  join(result, firsts, {.local_memory = memories_.get(), .reconnects = true});
  return result;
}

void RdmaTransport::stop() {
  if (stopping_.exchange(true)) return;
  for (const std::unique_ptr<NicProgress>& nic : nics_) nic->stop();
  close_rails();
  for (const std::unique_ptr<NicProgress>& nic : nics_) nic->engine.begin_stop();
  // Queue pairs that are being made, or closed, are somebody else's until the pool ends.
  making_.stop();
  for (const std::unique_ptr<NicProgress>& nic : nics_) {
    nic->engine.stop();
    const VerbsEngine::Counters counters = nic->engine.counters();
    log_debug("rdma: {}: {} work requests, {} ended; {} connections, {} evicted, {} at most",
              nic->engine.card().device(), counters.posted, counters.ended, counters.connected,
              counters.evicted, counters.most_alive);
    if (counters.posted != counters.ended) {
      log_error("rdma: {}: {} of {} work requests vanished", nic->engine.card().device(),
                counters.posted - counters.ended, counters.posted);
    }
  }
  if (serving_) serving_->stop();
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
    }};

}  // namespace te
