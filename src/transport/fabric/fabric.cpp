// Cards, the paths between them and those of peers, and the thread that polls.
#include "transport/fabric/fabric.h"

#include <poll.h>
#include <pthread.h>
#include <rdma/fi_errno.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

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
#include "base/thread.h"
#include "transport/fabric/initiator.h"
#include "transport/fabric/provider.h"
#include "transport/fabric/responders.h"

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
  std::unique_ptr<Domain> domain;
  std::unique_ptr<Responders> responders;
  std::unique_ptr<Beacon> beacon;
  Owned<fid_mr> beacon_range;
  std::unique_ptr<Pipe> pipe;
  // With the transport's lock.
  std::vector<std::shared_ptr<Initiator>> initiators;
  Initiator::Counters counters;                    // of those that ended
  std::vector<std::shared_ptr<Initiator>> polled;  // as the poller knows them
};

constexpr size_t kDescriptors = 8;  // of one connected endpoint, over sockets, or a few less
constexpr size_t kMostEndpoints = 256;
constexpr int64_t kQuietNs = 200 * kNsPerMs;  // at the end, for operations to complete

// Of one card: those that peers reach, and as many again. They take half of the descriptors.
size_t most_endpoints(size_t cards) {
  rlimit limit{};
  const bool known = ::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  const size_t descriptors = known ? limit.rlim_cur : 1 << 20;
  return std::clamp<size_t>(descriptors / 2 / kDescriptors / 2 / cards, 2, kMostEndpoints);
}

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
            .key_size = offer_.key_size()};
  }
  std::vector<DeviceLoad> loads() const override;
  Result<Bytes> register_memory(const Buffer& buffer) override { return memories_->add(buffer); }
  void unregister_memory(const Buffer& buffer) override { memories_->remove(buffer); }
  Bytes info() const override { return offer_.encode(); }
  std::vector<std::shared_ptr<Path>> make_paths(const Peer& peer, ByteView info) override;
  void warm_up(Path& path) override;
  void adopt(Fd, const wire::Hello&, std::shared_ptr<void>) override {}
  Result<Bytes> accept(const Bytes& hello) override;
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
  bool reaches(const Offer::Card& mine, const Offer::Card& theirs, bool here) const;
  std::shared_ptr<Path> make_path(size_t local, const std::shared_ptr<const Offer>& offer,
                                  size_t remote, const Peer& peer);

  Result<std::shared_ptr<Initiator>> find_initiator(size_t card) TE_REQUIRES(mutex_);
  // By the peer's run, the card here and the card there.
  using Place = std::tuple<uint64_t, size_t, size_t>;
  std::shared_ptr<Identity> take_identity(const Place& place) TE_REQUIRES(mutex_);

  void report(Card& card);
  void close_groups();
  void take_initiators();
  std::vector<std::shared_ptr<Initiator>> all_initiators() const;
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
  std::unique_ptr<rails::MemoryRegions> memories_;
  std::atomic<bool> asleep_{false};
  std::atomic<bool> stopping_{false};
  Thread poller_;
  mutable Mutex mutex_;
  std::vector<std::weak_ptr<FabricPath>> paths_ TE_GUARDED_BY(mutex_);
  std::map<Place, std::vector<std::shared_ptr<Identity>>> free_identities_ TE_GUARDED_BY(mutex_);
  std::atomic<bool> initiators_changed_{false};
  size_t most_endpoints_ = 1;
  InitiatorOptions options_;
};

Status FabricTransport::open_endpoints(Card& card) {
  Domain& domain = *card.domain;
  card.responders = std::make_unique<Responders>(domain, most_endpoints_, [this] { wake(); });
  TE_RETURN_IF_ERROR(card.responders->open());
  card.pipe = std::make_unique<Pipe>(domain.bytes_per_s());
  Offer::Card mine;
  mine.device = domain.device();
  mine.address = domain.address();
  card.beacon = std::make_unique<Beacon>(host_.instance());
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
  most_endpoints_ = most_endpoints(found.size());
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
  offer_.pieces = Key::most_pieces(cards_.size());
  memories_ = std::make_unique<rails::MemoryRegions>(
      std::vector<rails::Nic*>(domains.begin(), domains.end()), Nearness(matrix, nics, {}),
      offer_.pieces, config_.fabric_max_registration);
  options_ = {static_cast<int64_t>(config_.fabric_spin_us) * 1000,
              static_cast<int64_t>(config_.connect_timeout_ms),
              static_cast<int64_t>(config_.stall_timeout_ms), config_.fabric_max_operation,
              cards_.front().responders->depth()};
  return {};
}

Status FabricTransport::start(const NicMatrix& matrix) {
  if (!wake_.valid()) {
    return error(Code::kResource, "cannot make an event descriptor: {}; see ulimit -n",
                 errno_text(errno));
  }
  const Result<const Library*> library = Library::open(config_.fabric_library);
  if (!library.ok()) return library.status();
  Result<std::vector<CardInfo>> found =
      find_cards(**library, provider_of(name_), config_, host_.asked_address());
  if (!found.ok()) return found.status();
  TE_RETURN_IF_ERROR(open_cards(**library, found.take(), matrix));
  if (!local_registration_ && !survives_lost_memory(offer_.provider)) {
    warn_once(fmt::format(
        "{}: this provider copies in user space: memory that an application unmaps, protects or "
        "truncates before it unregisters it ends the process; fabric:tcp and tcp survive that",
        name_));
  }
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

// Whether two cards can talk: addresses of one family, and a loopback address only where the peer
// is `here`, on this host: from another host it leads elsewhere.
bool FabricTransport::reaches(const Offer::Card& mine, const Offer::Card& theirs, bool here) const {
  if (offer_.address_format == FI_ADDR_STR) return true;
  if (mine.address.size() != theirs.address.size()) return false;
  const uint32_t format = offer_.address_format;
  if (format != FI_SOCKADDR_IN && format != FI_SOCKADDR_IN6) return true;
  SocketAddress from, to;
  if (mine.address.size() > sizeof from.storage) return false;
  std::memcpy(&from.storage, mine.address.data(), mine.address.size());
  std::memcpy(&to.storage, theirs.address.data(), theirs.address.size());
  if (from.storage.ss_family != to.storage.ss_family) return false;
  return here || (!is_loopback(from.get()) && !is_loopback(to.get()));
}

std::shared_ptr<Path> FabricTransport::make_path(size_t local,
                                                 const std::shared_ptr<const Offer>& offer,
                                                 size_t remote, const Peer& peer) {
  const Place place(peer.instance, local, remote);
  std::shared_ptr<FabricPath> path;
  {
    MutexLock lock(mutex_);
    Result<std::shared_ptr<Initiator>> initiator = find_initiator(local);
    if (!initiator.ok()) {
      static LogLimit limit;
      log_limited(limit, LogLevel::kWarning, "{}: {}", name_, initiator.status().message());
      return nullptr;
    }
    path = std::make_shared<FabricPath>(*this, initiator.take(), cards_[local].domain->device(),
                                        offer, remote, peer, take_identity(place));
    paths_.push_back(path);
  }
  FabricPath* plain = path.get();
  return {plain, [this, path, place](Path*) {
            path->initiator().retire(*path);
            MutexLock lock(mutex_);
            free_identities_[place].push_back(path->shared_identity());
          }};
}

Result<std::shared_ptr<Initiator>> FabricTransport::find_initiator(size_t card) {
  std::vector<std::shared_ptr<Initiator>>& all = cards_[card].initiators;
  std::erase_if(all, [&](const auto& each) {
    if (each->members.load() > 0) return false;
    cards_[card].counters.add(each->counters());
    return true;
  });
  if (all.size() >= most_endpoints_) {
    return *std::min_element(all.begin(), all.end(), [](const auto& a, const auto& b) {
      return a->members.load() < b->members.load();
    });
  }
  auto made = std::make_shared<Initiator>(host_, *cards_[card].domain, *cards_[card].pipe,
                                          *memories_, card, options_, [this] { wake(); });
  TE_RETURN_IF_ERROR(made->open());
  if (stopping_.load()) made->begin_stop();
  all.push_back(made);
  initiators_changed_.store(true);
  return made;
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

void FabricTransport::take_initiators() {
  if (!initiators_changed_.exchange(false)) return;
  std::vector<std::vector<std::shared_ptr<Initiator>>> dropped;  // they end without the lock
  MutexLock lock(mutex_);
  for (Card& card : cards_) {
    dropped.push_back(std::move(card.polled));
    card.polled = card.initiators;
  }
}

std::vector<std::shared_ptr<Initiator>> FabricTransport::all_initiators() const {
  std::vector<std::shared_ptr<Initiator>> all;
  MutexLock lock(mutex_);
  for (const Card& card : cards_) {
    all.insert(all.end(), card.initiators.begin(), card.initiators.end());
  }
  return all;
}

Result<Bytes> FabricTransport::accept(const Bytes& bytes) {
  const Result<Hello> hello = Hello::decode(as_bytes(bytes));
  if (!hello.ok()) return hello.status();
  if (hello->card >= cards_.size()) {
    return error(Code::kProtocol, "{}: there is no card {}: there are {}", name_, hello->card,
                 cards_.size());
  }
  if (hello->type != Hello::Type::kTouch) return cards_[hello->card].responders->accept(*hello);
  Bytes answer;
  for (const Hello::Range& range : hello->ranges) {
    const bool may =
        memories_->may_touch(hello->card, range.key, range.address, range.length, range.write);
    answer += may ? '\1' : '\0';
  }
  return answer;
}

std::vector<std::shared_ptr<Path>> FabricTransport::make_paths(const Peer& peer, ByteView info) {
  Result<Offer> decoded = Offer::decode(info);
  if (!decoded.ok() || decoded->key_size() != peer.key_size) {
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
  const bool here = is_local_address(peer.address);
  std::vector<std::shared_ptr<Path>> result;
  for (size_t shift = 0; shift < offer->cards.size(); ++shift) {
    for (size_t local = 0; local < cards_.size(); ++local) {
      const size_t remote = (local + shift) % offer->cards.size();
      if (!reaches(offer_.cards[local], offer->cards[remote], here)) continue;
      if (auto path = make_path(local, offer, remote, peer)) result.push_back(std::move(path));
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
  const bool served = card.responders->serve();
  int64_t sleep_ns = kNever;
  for (const std::shared_ptr<Initiator>& initiator : card.polled) {
    // Before it sleeps, the poller arms the descriptor of each.
    if (spins && !initiator->busy()) continue;
    const Initiator::Attention attention = initiator->attend(!spins);
    look.news = look.news || attention.news;
    if (attention.descriptor >= 0) look.entries.push_back({attention.descriptor, POLLIN, 0});
    if (attention.poll_often) sleep_ns = std::min(sleep_ns, kShortestLookNs);
    if (attention.retry) sleep_ns = std::min(sleep_ns, kRetryNs);
    if (attention.visited) sleep_ns = std::min(sleep_ns, kVisitedNs);
    if (attention.watch) sleep_ns = std::min(sleep_ns, Initiator::kWatchNs);
  }
  if (spins) {
    look.news = look.news || served;
    return;
  }
  bool blind = false;
  look.news = !card.responders->may_sleep(look.entries, &blind) || look.news;
  if (blind) {
    sleep_ns = std::min(sleep_ns, blind_ns);
    look.news = look.news || served;
  }
  look.sleep_ns = std::min(look.sleep_ns, sleep_ns);
}

// Whether a descriptor of a card became readable.
bool FabricTransport::sleep(Look& look, int64_t sleep_ns) {
  asleep_.store(true);
  bool wanted = stopping_.load() || initiators_changed_.load();
  for (const Card& card : cards_) {
    wanted = wanted || card.responders->changed() ||
             std::any_of(card.polled.begin(), card.polled.end(),
                         [](const auto& each) { return each->wanted(); });
  }
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
    take_initiators();
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

void FabricTransport::report(Card& card) {
  MutexLock lock(mutex_);
  Initiator::Counters counters = card.counters;
  for (const std::shared_ptr<Initiator>& each : card.initiators) counters.add(each->counters());
  log_debug("{}: {}: {} operations: {} completed, {} failed, {} ended with the endpoint", name_,
            card.domain->device(), counters.posted, counters.completed, counters.failed,
            counters.ended);
  if (counters.posted != counters.completed + counters.failed + counters.ended) {
    log_error("{}: {}: {} of {} operations vanished", name_, card.domain->device(),
              counters.posted - counters.completed - counters.failed - counters.ended,
              counters.posted);
  }
}

void FabricTransport::stop() {
  if (stopping_.exchange(true)) return;
  wake();
  poller_.join();
  close_groups();
  const std::vector<std::shared_ptr<Initiator>> initiators = all_initiators();
  for (const std::shared_ptr<Initiator>& each : initiators) each->begin_stop();
  const int64_t until_ns = now_ns() + kQuietNs;
  for (const std::shared_ptr<Initiator>& each : initiators) each->stop(until_ns);
  for (Card& card : cards_) report(card);
  if (memories_) memories_->clear();
  for (Card& card : cards_) {
    const Domain::Turn turn(*card.domain);
    card.beacon_range.reset();
  }
  for (Card& card : cards_) {
    if (card.responders) card.responders->stop();
    card.beacon.reset();  // nobody reads it any more
  }
}

}  // namespace
}  // namespace fabric

constexpr TransportFactory kFabricFactory{
    .names = "efa, fabric:PROVIDER",
    .makes = [](std::string_view name) { return !fabric::provider_of(name).empty(); },
    .make = [](const TransportSetup& setup) -> Result<std::unique_ptr<Transport>> {
      // Without a topology no card is near anything, which is no reason to have none.
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
    .describe = fabric::describe};

}  // namespace te
