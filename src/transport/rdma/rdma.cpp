// Cards, the paths between them and those of peers, and the thread that polls.
#include "transport/rdma/rdma.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "transport/rdma/devices.h"
#include "transport/rdma/mover.h"
#include "transport/rdma/serving.h"

namespace te {
namespace rdma {
namespace {

constexpr int kPollsPerLook = 64;  // at the cards' events, while polling
// What a path costs that is used when the first choice is gone.
constexpr double kSpare = 1.1;
constexpr uint32_t kMostSlices = 128;         // in flight on one path
constexpr uint64_t kLargestSlice = 64 << 20;  // so that its operations fit a queue pair

class RdmaTransport final : public Transport {
 public:
  RdmaTransport(TransportHost& host, const Config& config)
      : host_(host), config_(config), wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
  ~RdmaTransport() override { stop(); }

  Status start(const TransportSetup& setup);

  std::string_view name() const override { return kName; }
  Capabilities capabilities() const override {
    return {.slice_bytes = kLargestSlice,
            .registers_local_memory = true,
            .key_size = offer_.key_size()};
  }
  std::vector<DeviceLoad> loads() const override;
  Result<Bytes> register_memory(const Buffer& buffer) override { return memories_->add(buffer); }
  void unregister_memory(const Buffer& buffer) override { memories_->remove(buffer); }
  Bytes info() const override { return offer_.encode(); }
  std::vector<std::shared_ptr<Path>> make_paths(const Peer& peer, ByteView info) override;
  void warm_up(Path& path) override;
  void adopt(Fd, const wire::Hello&, std::shared_ptr<void>) override {}
  Result<Bytes> accept(const Bytes& hello) override { return serving_->accept(as_bytes(hello)); }
  void post(Slice* first) override;
  bool progress(Path&, int64_t until_ns, Waker& waker) override {
    return mover_->visit(until_ns, waker);
  }
  void sweep(Path& path) override { mover_->sweep(of(path).group); }
  void reset(Path& path) override { mover_->reset(of(path).group); }
  void stop() override;

 private:
  static RdmaPath& of(Path& path) { return static_cast<RdmaPath&>(path); }

  std::shared_ptr<PeerGroup> make_group(const Peer& peer, Offer offer);
  void end_earlier_runs(const Peer& peer);
  void run();
  bool look_at_events();
  Mover::Attention arm();
  void sleep(int64_t until_ns);
  void wake();

  TransportHost& host_;
  const Config config_;
  const Fd wake_;
  Offer offer_;
  std::vector<std::unique_ptr<Card>> cards_;
  std::unique_ptr<rails::MemoryRegions> memories_;
  std::unique_ptr<Serving> serving_;
  std::unique_ptr<Mover> mover_;
  std::atomic<bool> asleep_{false};
  std::atomic<bool> stopping_{false};
  Thread poller_;
  Mutex mutex_;
  std::vector<std::weak_ptr<PeerGroup>> groups_ TE_GUARDED_BY(mutex_);
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
  if (!wake_.valid()) {
    return error(Code::kResource, "cannot make an event descriptor: {}; see ulimit -n",
                 errno_text(errno));
  }
  const Result<const Library*> library = Library::open(config_.rdma_library);
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
      Nearness(*matrix, names, setup.nodes_of), offer_.pieces, config_.rdma_max_registration);
  serving_ = std::make_unique<Serving>(cards, config_.rdma_inbound_endpoints);
  const MoverOptions options{static_cast<int64_t>(config_.rdma_spin_us) * 1000,
                             static_cast<int64_t>(config_.connect_timeout_ms),
                             config_.rdma_endpoints};
  mover_ = std::make_unique<Mover>(host_, cards, *memories_, options, [this] { wake(); });
  TE_RETURN_IF_ERROR(serving_->start());
  TE_RETURN_IF_ERROR(mover_->start());
  Result<Thread> poller = Thread::start("te-rdma", [this] { run(); });
  if (!poller.ok()) return poller.status();
  poller_ = poller.take();
  return {};
}

std::vector<DeviceLoad> RdmaTransport::loads() const {
  std::vector<DeviceLoad> result;
  for (const std::unique_ptr<Card>& card : cards_) {
    result.push_back({card->device(), card->pipe().queued_bytes(), 0});
  }
  return result;
}

// A run of the peer's engine that was there before is gone: what waits for it looks for the new
// one.
void RdmaTransport::end_earlier_runs(const Peer& peer) {
  std::vector<std::shared_ptr<PeerGroup>> outdated;
  {
    MutexLock lock(mutex_);
    std::erase_if(groups_, [](const std::weak_ptr<PeerGroup>& weak) { return weak.expired(); });
    for (const std::weak_ptr<PeerGroup>& weak : groups_) {
      std::shared_ptr<PeerGroup> group = weak.lock();
      if (group && group->peer.instance != peer.instance &&
          group->peer.address.to_string() == peer.address.to_string()) {
        outdated.push_back(std::move(group));
      }
    }
  }
  for (const std::shared_ptr<PeerGroup>& group : outdated) mover_->reset(*group);
}

std::shared_ptr<PeerGroup> RdmaTransport::make_group(const Peer& peer, Offer offer) {
  auto group = std::make_shared<PeerGroup>(peer, std::move(offer));
  const std::vector<Offer::Card>& theirs = group->offer.cards;
  const std::string address = peer.address.to_string();
  for (size_t local = 0; local < cards_.size(); ++local) {
    Card& card = *cards_[local];
    // Their first choices are spread over the peer's cards.
    bool first = true;
    for (size_t shift = 0; shift < theirs.size(); ++shift) {
      const size_t remote = (local + shift) % theirs.size();
      if (theirs[remote].infiniband != card.infiniband()) continue;
      PeerGroup::Link& link = group->links.emplace_back();
      link.local = local;
      link.remote = remote;
      group->remote_cards |= CardSet{1} << remote;
      const size_t index = group->links.size() - 1;
      link.path = std::make_unique<RdmaPath>(*this, *group, index, card.device(),
                                             theirs[remote].device, address);
      group->queue.add(*link.path, card.pipe(), card.bytes_per_s(), first ? 1 : kSpare,
                       kMostSlices);
      first = false;
    }
  }
  return group;
}

std::vector<std::shared_ptr<Path>> RdmaTransport::make_paths(const Peer& peer, ByteView info) {
  Result<Offer> offer = Offer::decode(info);
  if (!offer.ok() || offer->key_size() != peer.key_size) {
    static LogLimit limit;
    log_limited(limit, LogLevel::kWarning, "rdma: what the peer at {} offers cannot be understood",
                peer.address.to_string());
    return {};
  }
  end_earlier_runs(peer);
  std::shared_ptr<PeerGroup> group = make_group(peer, offer.take());
  {
    MutexLock lock(mutex_);
    groups_.push_back(group);
  }
  PeerGroup* plain = group.get();
  // The group is retired when the last of its paths is let go.
  const std::shared_ptr<PeerGroup> handle(plain,
                                          [this, group](PeerGroup*) { mover_->retire(*group); });
  std::vector<std::shared_ptr<Path>> paths;
  for (const PeerGroup::Link& link : plain->links) paths.emplace_back(handle, link.path.get());
  return paths;
}

void RdmaTransport::warm_up(Path& path) {
  for (PathState from : {PathState::kIdle, PathState::kFailed}) {
    if (path.state.compare_exchange_strong(from, PathState::kConnecting)) break;
  }
  if (path.state.load() == PathState::kReady) return;
  mover_->connect(of(path).group, of(path).index);
}

void RdmaTransport::post(Slice* first) {
  while (first != nullptr) {
    // Slices to one peer that follow each other go together.
    SliceList slices;
    PeerGroup& group = of(*first->path).group;
    while (first != nullptr && &of(*first->path).group == &group) {
      Slice* slice = first;
      first = first->next;
      slices.push(slice);
    }
    mover_->post(group, slices);
  }
}

void RdmaTransport::wake() {
  if (!asleep_.load()) return;
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

bool RdmaTransport::look_at_events() {
  bool any = false;
  for (size_t i = 0; i < cards_.size(); ++i) {
    const Card::News news = cards_[i]->take_events();
    if (news.came_up || news.went_down) mover_->card_changed(i, news);
    any = any || news.any;
  }
  return any;
}

// From here on a completion wakes the poller.
Mover::Attention RdmaTransport::arm() {
  for (const std::unique_ptr<Card>& card : cards_) card->arm();
  return mover_->attend();
}

void RdmaTransport::sleep(int64_t until_ns) {
  std::vector<pollfd> entries{{wake_.get(), POLLIN, 0}};
  for (const std::unique_ptr<Card>& card : cards_) {
    if (card->gone()) continue;
    entries.push_back({card->completion_descriptor(), POLLIN, 0});
    entries.push_back({card->event_descriptor(), POLLIN, 0});
  }
  asleep_.store(true);
  int64_t left_ns = until_ns == kNever ? 0 : std::max<int64_t>(until_ns - now_ns(), 0);
  const bool wanted = stopping_.load() || mover_->wanted();
  if (wanted) left_ns = 0;
  const timespec left{left_ns / 1'000'000'000, left_ns % 1'000'000'000};
  ::ppoll(entries.data(), entries.size(), until_ns == kNever && !wanted ? nullptr : &left, nullptr);
  asleep_.store(false);
  if (entries.front().revents != 0) {
    uint64_t count = 0;
    (void)!::read(wake_.get(), &count, sizeof count);
  }
  for (const std::unique_ptr<Card>& card : cards_) card->take_completion_events();
  look_at_events();
}

void RdmaTransport::run() {
  SpinPolicy spin(static_cast<int64_t>(config_.rdma_spin_us) * 1000);
  int64_t idle_since = now_ns();
  for (int rounds = 1; !stopping_.load(); ++rounds) {
    Mover::Attention attention = mover_->attend();
    int64_t now = now_ns();
    const int64_t serving_ns = serving_->attend(now);
    if (!attention.news && !attention.visited && now - idle_since < spin.budget_ns()) {
      if (rounds % kPollsPerYield == 0) std::this_thread::yield();
      if (rounds % kPollsPerLook == 0) look_at_events();
      continue;
    }
    if (!attention.news && !attention.visited) attention = arm();
    if (!attention.news) {
      sleep(std::min(attention.next_ns, serving_ns));
      now = now_ns();
    }
    spin.came_after(now - idle_since);
    idle_since = now;
  }
}

void RdmaTransport::stop() {
  if (stopping_.exchange(true)) return;
  wake();
  poller_.join();
  if (mover_) {
    mover_->stop();
    const Mover::Counters counters = mover_->counters();
    log_debug("rdma: {} work requests, {} ended; {} connections, {} evicted, {} at most",
              counters.posted, counters.ended, counters.connected, counters.evicted,
              counters.most_alive);
    if (counters.posted != counters.ended) {
      log_error("rdma: {} of {} work requests vanished", counters.posted - counters.ended,
                counters.posted);
    }
  }
  if (serving_) serving_->stop();
  if (memories_) memories_->clear();
}

}  // namespace
}  // namespace rdma

constexpr TransportFactory kRdmaFactory{
    .names = rdma::kName,
    .makes = [](std::string_view name) { return name == rdma::kName; },
    .make = [](const TransportSetup& setup) -> Result<std::unique_ptr<Transport>> {
      auto transport = std::make_unique<rdma::RdmaTransport>(setup.host, setup.config);
      TE_RETURN_IF_ERROR(transport->start(setup));
      return std::unique_ptr<Transport>(std::move(transport));
    },
    .describe = [](const Config& config) -> std::vector<TransportInfo> {
      TransportInfo info;
      info.name = rdma::kName;
      const Result<const rdma::Library*> library = rdma::Library::open(config.rdma_library);
      info.detail = library.ok() ? rdma::describe_devices(**library, &info.available)
                                 : library.status().message();
      return {info};
    }};

}  // namespace te
