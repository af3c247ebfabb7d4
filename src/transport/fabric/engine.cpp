// An engine as its progress engine sees it. engine_work.cpp and engine_connect.cpp are
// what is done with the progress lock.
#include "transport/fabric/engine.h"

#include <algorithm>
#include <thread>

#include "base/clock.h"
#include "base/log.h"

namespace te::fabric {
namespace {

constexpr int64_t kRetryNs = 1 * kNsPerMs;  // for what waits for room or a connection
constexpr int64_t kBlindNs = 50'000;        // between looks where no descriptor reports completions

}  // namespace

FabricEngine::FabricEngine(TransportHost& host, Domain& domain, RateEstimator& rate,
                           const rails::MemoryRegions& memories, size_t index,
                           const EngineOptions& options, std::function<void()> wake)
    : RailEngine(host, options.spin_ns, std::move(wake)),
      domain_(domain),
      memories_(memories),
      index_(index),
      options_(options),
      bytes_per_s_(domain.bytes_per_s()),
      max_operation_(options.max_operation == 0
                         ? domain.max_operation()
                         : std::min(options.max_operation, domain.max_operation())),
      most_slices_(static_cast<uint32_t>(std::max<size_t>(options.depth / 2, 1))),
      rate_(rate) {}

Status FabricEngine::open() {
  MutexLock lock(progress_.lock);
  probes_.all = std::make_unique<std::array<ProbeBuffer, kProbeBuffers>>();
  if (domain_.local_registration()) {
    Result<Owned<fid_mr>> range = domain_.add_range(probes_.all->data(), sizeof *probes_.all,
                                                    Rights::kBoth, Rights::kNone, "*");
    if (!range.ok()) return range.status();
    probes_.range = range.take();
  }
  return {};
}

FabricRail::FabricRail(Transport& owner, std::shared_ptr<FabricEngine> through,
                       const std::string& device,
                       std::shared_ptr<const rails::Advertisement> advertised,
                       const Advertised& details, const Peer& peer, size_t local_nic,
                       size_t remote_nic, std::shared_ptr<Identity> identity)
    : Rail(owner, *through, device, std::move(advertised), peer, local_nic, remote_nic),
      virtual_addresses(details.provider.virtual_addresses),
      nic_there(details.nics[remote_nic]),
      engine_(std::move(through)),
      identity_(std::move(identity)) {
  engine_->members.fetch_add(1);
}

FabricRail::~FabricRail() { engine_->members.fetch_sub(1); }

FabricEngine::~FabricEngine() {
  const Domain::Turn turn(domain_);
  close_endpoint();
}

bool FabricEngine::needs_thread() const {
  const bool stuck = progress_.blocked.load() && progress_.outstanding.load() == 0;
  const bool blind = endpoint_ && endpoint_->queue().wait_descriptor() < 0;
  return stuck || (blind && !progress_.expects_caller(now_ns()));
}

int64_t FabricEngine::watch(int64_t now) {
  {
    const Domain::Turn turn(domain_);
    renew_if_due(now);
  }
  const bool watched = watch_.on || renewal_.queue_failed || renewal_.wanted;
  const bool blocked = progress_.blocked.load();
  watched_.store(watched || blocked);
  const bool blind = endpoint_ && endpoint_->queue().wait_descriptor() < 0;
  if (blind && progress_.outstanding.load() > 0) return now + kBlindNs;
  if (blocked) return now + kRetryNs;
  return watched ? now + kWatchNs : kNever;
}

Arming FabricEngine::arm(bool for_caller) {
  (void)for_caller;
  if (!endpoint_) return {};
  const Domain::Turn turn(domain_);
  const int descriptor = endpoint_->queue().wait_descriptor();
  if (descriptor < 0) return {.nap_ns = kBlindNs};
  if (!endpoint_->queue().may_sleep()) return {.news = true};
  return {.descriptor = descriptor};
}

bool FabricEngine::stop_now(int64_t until_ns) {
  for (auto& [path, owner] : known_) return_waiting(of(*path), Code::kCancelled);
  if (progress_.outstanding.load() > 0 && !renewal_.queue_failed && now_ns() < until_ns)
    return false;
  close_endpoint();
  end_operations(Code::kCancelled);
  for (auto& [path, owner] : known_) {
    FabricRail& rail = of(*path);
    forget_reads(rail, Code::kCancelled);
    end_suspects(rail, rail.link.suspects.all.size(), {}, Code::kCancelled);
    leave_peer(rail);
  }
  probes_.range.reset();
  peers_.clear();
  renewal_.broken = Status(Code::kCancelled, "the transport was taken away");
  return true;
}

void FabricEngine::stop(int64_t until_ns) {
  for (bool over = false; !over;) {
    progress_.run([&]() TE_REQUIRES(progress_.lock) {
      (void)poll();
      const Domain::Turn turn(domain_);
      over = stop_now(until_ns);
    });
    if (!over) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  // A rail holds its engine: whatever holds rails here would keep all of them.
  std::map<rails::Rail*, std::shared_ptr<rails::Rail>> known;
  MutexLock lock(progress_.lock);
  known = forget_all();
}

FabricEngine::Counters FabricEngine::counters() {
  MutexLock lock(progress_.lock);
  return counters_;
}

}  // namespace te::fabric
