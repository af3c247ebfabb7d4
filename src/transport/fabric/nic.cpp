#include "transport/fabric/nic.h"

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"

namespace te::fabric {
namespace {

// Between looks at queues without a descriptor.
constexpr int64_t kShortestLookNs = 50'000;
constexpr int64_t kLongestLookNs = 1 * kNsPerMs;

}  // namespace

FabricNic::FabricNic(std::unique_ptr<Domain> domain, size_t most_endpoints, int64_t spin_ns)
    : domain_(std::move(domain)),
      most_endpoints_(most_endpoints),
      rate_(std::make_unique<RateEstimator>(domain_->bytes_per_s())),
      blind_ns_(kShortestLookNs),
      thread_(*this, spin_ns) {}

Status FabricNic::open(uint64_t instance) {
  responders_ = std::make_unique<Responders>(*domain_, most_endpoints_, [this] { thread_.wake(); });
  TE_RETURN_IF_ERROR(responders_->open());
  liveness_ = std::make_unique<LivenessWords>(instance);
  Result<Owned<fid_mr>> range =
      domain_->add_range(liveness_.get(), sizeof *liveness_, Rights::kBoth, Rights::kBoth, "*");
  if (!range.ok()) return range.status();
  liveness_range_ = range.take();
  return {};
}

Status FabricNic::start(TransportHost& host, const rails::MemoryRegions& memories, size_t index,
                        const EngineOptions& options) {
  host_ = &host;
  memories_ = &memories;
  index_ = index;
  options_ = options;
  return thread_.start("te-fabric");
}

NicAddress FabricNic::address() const {
  NicAddress mine;
  mine.name = domain_->address();
  if (domain_->virtual_addresses()) {
    mine.liveness_address = reinterpret_cast<uint64_t>(liveness_.get());
  }
  mine.liveness_key = ::fi_mr_key(liveness_range_.get());
  return mine;
}

Result<std::shared_ptr<FabricEngine>> FabricNic::find_engine() {
  MutexLock lock(mutex_);
  std::erase_if(engines_, [this](const auto& each) TE_REQUIRES(mutex_) {
    if (each->members.load() > 0) return false;
    counters_.add(each->counters());
    return true;
  });
  if (engines_.size() >= most_endpoints_) {
    return *std::min_element(engines_.begin(), engines_.end(), [](const auto& a, const auto& b) {
      return a->members.load() < b->members.load();
    });
  }
  auto made = std::make_shared<FabricEngine>(*host_, *domain_, *rate_, *memories_, index_, options_,
                                             [this] { thread_.wake(); });
  TE_RETURN_IF_ERROR(made->open());
  if (stopping_) made->progress().close();
  engines_.push_back(made);
  changed_.store(true);
  return made;
}

void FabricNic::take_engines() {
  if (!changed_.exchange(false)) return;
  std::vector<std::shared_ptr<FabricEngine>> dropped;  // they end without the lock
  MutexLock lock(mutex_);
  dropped.swap(polled_);
  polled_ = engines_;
}

void FabricNic::look(bool before_sleep, Look& look) {
  take_engines();
  const bool served = responders_->serve();
  for (const std::shared_ptr<FabricEngine>& engine : polled_) {
    // Before it sleeps, the thread arms each.
    if (before_sleep || engine->busy()) engine->progress().look(before_sleep, look);
  }
  bool blind = false;
  if (!before_sleep) {
    look.news = look.news || served;
  } else {
    look.news = !responders_->may_sleep(look.descriptors, &blind) || look.news;
  }
  if (blind) {
    look.come_at(now_ns() + blind_ns_);
    look.news = look.news || served;
  }
  blind_ns_ = look.news ? kShortestLookNs : std::min(2 * blind_ns_, kLongestLookNs);
}

bool FabricNic::wanted() const {
  return changed_.load() || responders_->changed() ||
         std::any_of(polled_.begin(), polled_.end(),
                     [](const auto& each) { return each->progress().wanted(); });
}

void FabricNic::begin_stop() {
  MutexLock lock(mutex_);
  stopping_ = true;
  for (const std::shared_ptr<FabricEngine>& each : engines_) each->progress().close();
}

void FabricNic::stop_engines(int64_t until_ns) {
  std::vector<std::shared_ptr<FabricEngine>> engines;
  {
    MutexLock lock(mutex_);
    engines = engines_;
  }
  for (const std::shared_ptr<FabricEngine>& each : engines) each->stop(until_ns);
}

FabricEngine::Counters FabricNic::counters() {
  MutexLock lock(mutex_);
  FabricEngine::Counters counters = counters_;
  for (const std::shared_ptr<FabricEngine>& each : engines_) counters.add(each->counters());
  return counters;
}

void FabricNic::stop() {
  thread_.stop();
  {
    const Domain::Turn turn(*domain_);
    liveness_range_.reset();
  }
  if (responders_) responders_->stop();
  liveness_.reset();  // nobody reads it any more
}

}  // namespace te::fabric
