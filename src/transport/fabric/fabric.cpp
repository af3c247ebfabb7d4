// Cards, the paths between them and those of peers, and the thread that polls.
#include "transport/fabric/fabric.h"

#include <poll.h>
#include <pthread.h>
#include <rdma/fi_errno.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "transport/fabric/initiator.h"
#include "transport/fabric/provider.h"

namespace te {
namespace fabric {
namespace {

constexpr int64_t kVisitedNs = 2 * kNsPerMs;
constexpr int64_t kRetryNs = 1 * kNsPerMs;
// Between looks at queues that cannot be slept on.
constexpr int64_t kShortestLookNs = 50'000;
constexpr int64_t kLongestLookNs = 1 * kNsPerMs;

// One local card: what peers reach, and what reaches them.
struct Card {
  struct alignas(64) Beacon {
    uint64_t instance;
  };

  std::unique_ptr<Domain> domain;
  std::unique_ptr<Endpoint> serving;
  std::unique_ptr<Beacon> beacon = std::make_unique<Beacon>();
  Owned<fid_mr> beacon_range;
  std::unique_ptr<Initiator> initiator;

  int64_t empty_ns = kNever;  // what a look takes that finds nothing

  // Lets the provider work for peers, where it needs that. It does not tell whether there was
  // anything to do, but that takes longer.
  bool serve() {
    const Domain::Turn turn(*domain);
    const int64_t begin_ns = now_ns();
    fi_cq_entry entries[16];
    while (::fi_cq_read(serving->queue(), entries, 16) == -FI_EAVAIL) {
      fi_cq_err_entry failed{};
      if (::fi_cq_readerr(serving->queue(), &failed, 0) != 1) break;
      static LogLimit limit;
      log_limited(limit, LogLevel::kDebug, "{}", domain->failed("serving", failed.err).message());
    }
    const int64_t took_ns = now_ns() - begin_ns;
    empty_ns = std::min(empty_ns, took_ns);
    return took_ns > 4 * empty_ns + 1000;
  }
  bool serving_may_sleep() {
    const Domain::Turn turn(*domain);
    return serving->may_sleep();
  }
};

class FabricTransport final : public Transport {
 public:
  FabricTransport(TransportHost& host, const Config& config, std::string_view name)
      : host_(host),
        config_(config),
        name_(name),
        wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
  ~FabricTransport() override { stop(); }

  Status start(const NicMatrix& matrix);

  std::string_view name() const override { return name_; }
  Capabilities capabilities() const override {
    return {.same_engine_only = false,
            .data_over_engine_port = false,
            .registers_local_memory = local_registration_,
            .key_size = Key::size(offer_)};
  }
  std::vector<DeviceLoad> loads() const override;
  Result<Bytes> register_memory(const Buffer& buffer) override { return memories_->add(buffer); }
  void unregister_memory(const Buffer& buffer) override { memories_->remove(buffer); }
  Bytes info() const override { return offer_.encode(); }
  std::vector<std::shared_ptr<Path>> make_paths(const Peer& peer, ByteView info) override;
  void warm_up(Path& path) override;
  void adopt(Fd, const wire::Hello&, std::shared_ptr<void>) override {}
  void post(Slice* first) override;
  bool progress(Path& path, int64_t until_ns, Waker& waker) override {
    return of(path).initiator().visit(until_ns, waker);
  }
  void sweep(Path& path) override { of(path).initiator().sweep(of(path)); }
  void reset(Path& path) override { of(path).initiator().reset(of(path)); }
  void stop() override;

 private:
  static FabricPath& of(Path& path) { return static_cast<FabricPath&>(path); }

  Status open_cards(const Library& library, std::vector<CardInfo> found, const NicMatrix& matrix);
  Status open_endpoints(Card& card);
  bool reaches(const Offer::Card& mine, const Offer::Card& theirs) const;
  std::shared_ptr<Path> make_path(size_t local, const std::shared_ptr<const Offer>& offer,
                                  size_t remote, const Peer& peer);

  void close_groups();
  void run();
  struct Look {
    std::vector<pollfd> entries;
    int64_t sleep_ns = kNever;
    bool news = false;
  };
  void look_at(Card& card, bool spins, int64_t blind_ns, Look& look);
  bool sleep(Look& look, int64_t sleep_ns);
  void wake();

  TransportHost& host_;
  const Config config_;
  const std::string name_;
  const Fd wake_;
  Offer offer_;
  bool local_registration_ = false;
  std::vector<Card> cards_;
  std::unique_ptr<Memories> memories_;
  std::atomic<bool> asleep_{false};
  std::atomic<bool> stopping_{false};
  Thread poller_;
  mutable Mutex mutex_;
  std::vector<std::weak_ptr<FabricPath>> paths_ TE_GUARDED_BY(mutex_);
};

Status FabricTransport::open_endpoints(Card& card) {
  Domain& domain = *card.domain;
  {
    const Domain::Turn turn(domain);
    Result<std::unique_ptr<Endpoint>> serving = Endpoint::open(domain);
    if (!serving.ok()) return serving.status();
    card.serving = serving.take();
  }
  domain.bind_ranges_to(card.serving->get());
  Offer::Card mine;
  mine.device = domain.device();
  Result<Bytes> endpoint = card.serving->name();
  if (!endpoint.ok()) return endpoint.status();
  mine.endpoint = endpoint.take();
  card.beacon->instance = host_.instance();
  Result<Owned<fid_mr>> range =
      domain.add_range(card.beacon.get(), sizeof *card.beacon, Rights::kBoth, Rights::kBoth, "*");
  if (!range.ok()) return range.status();
  card.beacon_range = range.take();
  if (domain.virtual_addresses()) {
    mine.beacon_address = reinterpret_cast<uint64_t>(card.beacon.get());
  }
  mine.beacon_key = ::fi_mr_key(card.beacon_range.get());
  offer_.cards.push_back(std::move(mine));
  return {};
}

Status FabricTransport::open_cards(const Library& library, std::vector<CardInfo> found,
                                   const NicMatrix& matrix) {
  if (found.size() > Offer::kMaxCards) found.resize(Offer::kMaxCards);
  const fi_info& first = *found.front().info;
  offer_.provider = first.fabric_attr->prov_name;
  offer_.protocol = first.ep_attr->protocol;
  offer_.address_format = first.addr_format;
  std::vector<Domain*> domains;
  std::vector<std::string> nics;
  for (CardInfo& each : found) {
    Result<std::unique_ptr<Domain>> domain = Domain::open(library, std::move(each));
    if (!domain.ok()) return domain.status();
    Card& card = cards_.emplace_back();
    card.domain = domain.take();
    domains.push_back(card.domain.get());
    nics.push_back(card.domain->nic());
    TE_RETURN_IF_ERROR(open_endpoints(card));
  }
  offer_.virtual_addresses = domains.front()->virtual_addresses();
  local_registration_ = domains.front()->local_registration();
  const size_t most_keys = (Descriptor::kMaxKeySize - 24) / 8;
  offer_.pieces =
      static_cast<uint32_t>(std::clamp<size_t>(most_keys / cards_.size(), 1, Offer::kMaxPieces));
  memories_ = std::make_unique<Memories>(domains, Nearness(matrix, nics, {}), offer_.pieces,
                                         config_.fabric_max_registration);
  const InitiatorOptions options{static_cast<int64_t>(config_.fabric_spin_us) * 1000,
                                 static_cast<int64_t>(config_.connect_timeout_ms),
                                 config_.fabric_max_operation};
  for (size_t i = 0; i < cards_.size(); ++i) {
    cards_[i].initiator =
        std::make_unique<Initiator>(host_, *domains[i], *memories_, i, options, [this] { wake(); });
    TE_RETURN_IF_ERROR(cards_[i].initiator->open());
  }
  return {};
}

Status FabricTransport::start(const NicMatrix& matrix) {
  if (!wake_.valid()) {
    return error(Code::kResource, "cannot make an event descriptor: {}; see ulimit -n",
                 errno_text(errno));
  }
  const Result<const Library*> library = Library::open(config_.fabric_library);
  if (!library.ok()) return library.status();
  Result<std::vector<CardInfo>> found = find_cards(**library, provider_of(name_), config_);
  if (!found.ok()) return found.status();
  TE_RETURN_IF_ERROR(open_cards(**library, found.take(), matrix));
  for (const Card& card : cards_) {
    log_info("{}: {} on {}, {}", name_, offer_.provider, card.domain->device(),
             (*library)->description());
  }
  Result<Thread> poller = Thread::start("te-fabric", [this] { run(); });
  if (!poller.ok()) return poller.status();
  poller_ = poller.take();
  return {};
}

std::vector<DeviceLoad> FabricTransport::loads() const {
  std::vector<DeviceLoad> result;
  for (const Card& card : cards_) result.push_back({card.domain->device(), 0, 0});
  MutexLock lock(mutex_);
  for (const std::weak_ptr<FabricPath>& weak : paths_) {
    const std::shared_ptr<FabricPath> path = weak.lock();
    if (!path) continue;
    for (DeviceLoad& load : result) {
      if (load.device == path->local_device) load.inflight_bytes += path->inflight_bytes;
    }
  }
  return result;
}

// Whether two cards can talk: names of one kind, and not this host's loopback with a real network.
bool FabricTransport::reaches(const Offer::Card& mine, const Offer::Card& theirs) const {
  if (offer_.address_format == FI_ADDR_STR) return true;
  if (mine.endpoint.size() != theirs.endpoint.size()) return false;
  const uint32_t format = offer_.address_format;
  if (format != FI_SOCKADDR_IN && format != FI_SOCKADDR_IN6) return true;
  // The address family, and where it begins in IPv4.
  if (mine.endpoint.size() < 8 || theirs.endpoint.substr(0, 2) != mine.endpoint.substr(0, 2)) {
    return false;
  }
  if (format == FI_SOCKADDR_IN6) return true;
  const auto loopback = [](const Bytes& name) { return name[4] == 127; };
  return loopback(mine.endpoint) == loopback(theirs.endpoint);
}

std::shared_ptr<Path> FabricTransport::make_path(size_t local,
                                                 const std::shared_ptr<const Offer>& offer,
                                                 size_t remote, const Peer& peer) {
  auto path =
      std::make_shared<FabricPath>(*this, *cards_[local].initiator, cards_[local].domain->device(),
                                   offer, remote, peer.instance, peer.address.to_string());
  {
    MutexLock lock(mutex_);
    paths_.push_back(path);
  }
  FabricPath* plain = path.get();
  return {plain, [path](Path*) { path->initiator().retire(*path); }};
}

std::vector<std::shared_ptr<Path>> FabricTransport::make_paths(const Peer& peer, ByteView info) {
  Result<Offer> decoded = Offer::decode(info);
  if (!decoded.ok() || Key::size(*decoded) != peer.key_size) {
    static LogLimit limit;
    log_limited(limit, LogLevel::kWarning, "{}: what the peer at {} offers cannot be understood",
                name_, peer.address.to_string());
    return {};
  }
  const auto offer = std::make_shared<const Offer>(decoded.take());
  if (offer->provider != offer_.provider || offer->protocol != offer_.protocol ||
      offer->address_format != offer_.address_format) {
    static LogLimit limit;
    log_limited(limit, LogLevel::kInfo,
                "{}: the peer at {} has provider {}, this side {}: they do not talk", name_,
                peer.address.to_string(), offer->provider, offer_.provider);
    return {};
  }
  // An earlier run at this address is gone: what waits for it has to look for the new one.
  std::vector<std::shared_ptr<FabricPath>> outdated;
  {
    MutexLock lock(mutex_);
    std::erase_if(paths_, [](const std::weak_ptr<FabricPath>& weak) { return weak.expired(); });
    for (const std::weak_ptr<FabricPath>& weak : paths_) {
      std::shared_ptr<FabricPath> path = weak.lock();
      if (path && path->remote_address == peer.address.to_string() &&
          path->instance() != peer.instance) {
        outdated.push_back(std::move(path));
      }
    }
  }
  for (const std::shared_ptr<FabricPath>& path : outdated) {
    if (path->inflight_bytes.load() > 0) reset(*path);
  }
  std::vector<std::shared_ptr<Path>> result;
  for (size_t shift = 0; shift < offer->cards.size(); ++shift) {
    for (size_t local = 0; local < cards_.size(); ++local) {
      const size_t remote = (local + shift) % offer->cards.size();
      if (!reaches(offer_.cards[local], offer->cards[remote])) continue;
      result.push_back(make_path(local, offer, remote, peer));
    }
  }
  if (result.size() < 2) return result;
  const auto group = std::make_shared<Group>(local_registration_ ? memories_.get() : nullptr);
  for (size_t i = 0; i < result.size(); ++i) {
    FabricPath& path = of(*result[i]);
    path.join(group, i);
    // Each card here with one there makes use of all of them.
    const size_t local = path.initiator().card(), remote = path.remote_card();
    const bool first = local % offer->cards.size() == remote || remote % cards_.size() == local;
    group->add(path.shared_from_this(), first);
  }
  return result;
}

void FabricTransport::warm_up(Path& path) {
  for (PathState from : {PathState::kIdle, PathState::kFailed}) {
    if (path.state.compare_exchange_strong(from, PathState::kConnecting)) break;
  }
  if (path.state.load() == PathState::kReady) return;
  of(path).initiator().connect(of(path));
}

void FabricTransport::post(Slice* first) {
  while (first != nullptr) {
    // Slices of one path that follow each other go together. Of several paths to a peer the plan
    // names any.
    SliceList slices;
    Path* path = first->path;
    while (first != nullptr && first->path == path) {
      Slice* slice = first;
      first = first->next;
      slices.push(slice);
    }
    Group* group = of(*path).group().get();
    if (group == nullptr) {
      of(*path).initiator().post(of(*path), slices);
    } else if (!group->post(slices)) {
      // Nobody is left to return them later.
      while (!slices.empty()) host_.done(slices.pop(), Code::kCancelled);
    }
  }
}

void FabricTransport::wake() {
  if (!asleep_.load()) return;
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

// `spins`: it is looked at again at once, so that nobody asks what could be slept on.
void FabricTransport::look_at(Card& card, bool spins, int64_t blind_ns, Look& look) {
  const bool served = card.serve();
  const Initiator::Attention attention = card.initiator->attend(!spins);
  look.news = look.news || attention.news;
  if (spins) {
    look.news = look.news || served;
    return;
  }
  if (attention.descriptor >= 0) look.entries.push_back({attention.descriptor, POLLIN, 0});
  int64_t sleep_ns = kNever;
  if (const int descriptor = card.serving->wait_descriptor(); descriptor >= 0) {
    look.entries.push_back({descriptor, POLLIN, 0});
    look.news = look.news || !card.serving_may_sleep();
  } else {
    sleep_ns = blind_ns;
    look.news = look.news || served;
  }
  if (attention.poll_often) sleep_ns = std::min(sleep_ns, kShortestLookNs);
  if (attention.retry) sleep_ns = std::min(sleep_ns, kRetryNs);
  if (attention.visited) sleep_ns = std::min(sleep_ns, kVisitedNs);
  if (attention.watch) sleep_ns = std::min(sleep_ns, Initiator::kWatchNs);
  look.sleep_ns = std::min(look.sleep_ns, sleep_ns);
}

// Whether a descriptor of a card became readable.
bool FabricTransport::sleep(Look& look, int64_t sleep_ns) {
  asleep_.store(true);
  const bool wanted =
      stopping_.load() || std::any_of(cards_.begin(), cards_.end(),
                                      [](const Card& card) { return card.initiator->wanted(); });
  if (wanted) sleep_ns = 0;
  look.entries.push_back({wake_.get(), POLLIN, 0});
  const timespec left{sleep_ns / 1'000'000'000, sleep_ns % 1'000'000'000};
  ::ppoll(look.entries.data(), look.entries.size(), sleep_ns == kNever ? nullptr : &left, nullptr);
  asleep_.store(false);
  if (look.entries.back().revents != 0) {
    uint64_t count = 0;
    (void)!::read(wake_.get(), &count, sizeof count);
  }
  look.entries.pop_back();
  return std::any_of(look.entries.begin(), look.entries.end(),
                     [](const pollfd& entry) { return entry.revents != 0; });
}

void FabricTransport::run() {
  SpinPolicy spin(static_cast<int64_t>(config_.fabric_spin_us) * 1000);
  int64_t idle_since = now_ns();
  int64_t blind_ns = kShortestLookNs;
  for (int rounds = 1; !stopping_.load(); ++rounds) {
    const bool spins = now_ns() - idle_since < spin.budget_ns();
    Look look;
    for (Card& card : cards_) look_at(card, spins, blind_ns, look);
    bool news = look.news;
    if (!news && !spins) news = sleep(look, look.sleep_ns);
    if (!news && rounds % kPollsPerYield == 0) std::this_thread::yield();
    blind_ns = news ? kShortestLookNs : std::min(2 * blind_ns, kLongestLookNs);
    if (!news) continue;
    const int64_t now = now_ns();
    spin.came_after(now - idle_since);
    idle_since = now;
  }
}

void FabricTransport::close_groups() {
  std::vector<std::shared_ptr<FabricPath>> paths;
  {
    MutexLock lock(mutex_);
    for (const std::weak_ptr<FabricPath>& weak : paths_) paths.push_back(weak.lock());
  }
  for (const std::shared_ptr<FabricPath>& path : paths) {
    if (!path || !path->group()) continue;
    SliceList slices = path->group()->close();
    while (!slices.empty()) host_.done(slices.pop(), Code::kCancelled);
  }
}

void FabricTransport::stop() {
  if (stopping_.exchange(true)) return;
  wake();
  poller_.join();
  close_groups();
  for (Card& card : cards_) {
    if (!card.initiator) continue;
    card.initiator->stop();
    const Initiator::Counters counters = card.initiator->counters();
    log_debug("{}: {}: {} operations: {} completed, {} failed, {} ended with the endpoint", name_,
              card.domain->device(), counters.posted, counters.completed, counters.failed,
              counters.ended);
    if (counters.posted != counters.completed + counters.failed + counters.ended) {
      log_error("{}: {}: {} of {} operations vanished", name_, card.domain->device(),
                counters.posted - counters.completed - counters.failed - counters.ended,
                counters.posted);
    }
  }
  if (memories_) memories_->clear();
  for (Card& card : cards_) {
    const Domain::Turn turn(*card.domain);
    card.beacon_range.reset();
    card.serving.reset();
  }
}

}  // namespace
}  // namespace fabric

bool is_fabric_transport(std::string_view name) { return !fabric::provider_of(name).empty(); }

Result<std::unique_ptr<Transport>> make_fabric_transport(TransportHost& host, const Config& config,
                                                         std::string_view name,
                                                         const NicMatrix& matrix) {
  auto transport = std::make_unique<fabric::FabricTransport>(host, config, name);
  TE_RETURN_IF_ERROR(transport->start(matrix));
  return std::unique_ptr<Transport>(std::move(transport));
}

std::vector<TransportInfo> describe_fabric_transports(const Config& config) {
  return fabric::describe(config);
}

}  // namespace te
