// The endpoint of an engine: made, cut off, closed with all that is under way, and made anew.
#include <rdma/fi_errno.h>

#include <set>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "transport/fabric/engine.h"
#include "transport/fabric/sockets.h"

namespace te::fabric {
namespace {

constexpr int64_t kCutNs = 200 * kNsPerMs;  // for operations to end after their connections
// A provider sees that a connection is cut when it looks next, and reads what arrived before. What
// it does not end within so long, and so many looks, it does not end at all.
constexpr int64_t kNoEndNs = 20 * kNsPerMs;
constexpr int kNoEndLooks = 200;
constexpr int64_t kReopenNs = 500 * kNsPerMs;  // between attempts, while the NIC's link is down

}  // namespace

Status FabricEngine::open_endpoint() {
  const Result<std::shared_ptr<Queue>> queue = Queue::open(domain_);
  Result<std::unique_ptr<Endpoint>> opened =
      queue.ok() ? Endpoint::open(domain_, *queue) : queue.status();
  renewal_.broken = opened.status();
  renewal_.queue_failed = false;
  renewal_.wanted = false;
  if (!opened.ok()) {
    renewal_.reopen_ns = now_ns() + kReopenNs;
    return renewal_.broken;
  }
  endpoint_ = opened.take();
  work_.operations.assign(endpoint_->queue().depth(), {});
  work_.free_operations.clear();
  for (Operation& operation : work_.operations) work_.free_operations.push_back(&operation);
  probes_.free.clear();
  for (uint32_t i = 0; i < kProbeBuffers; ++i) probes_.free.push_back(i);
  return {};
}

// Nothing is posted before.
void FabricEngine::renew_soon() {
  renewal_.wanted = true;
  progress_.call_thread();
}

// The tcp provider of libfabric 1.17 frees a READ twice if its endpoint is closed while a part of
// the answer is there, and ofi_rxm then follows a null pointer. A connection that ends by itself it
// ends well: so the connections are cut, and the operations that end by that awaited.
void FabricEngine::cut_connections() {
  std::set<AddressKey> peers;
  for (const auto& [name, noted] : contacted_) peers.insert(address_key(name));
  if (shut_down_connections(peers) == 0) return;
  int64_t ended_ns = now_ns();
  const int64_t until_ns = ended_ns + kCutNs;
  uint64_t failed = 0;
  for (int looks = 0; progress_.outstanding.load() > failed; ++looks) {
    const int64_t now = now_ns();
    if (now >= until_ns || (looks >= kNoEndLooks && now - ended_ns >= kNoEndNs)) break;
    fi_cq_entry entries[kCompletionsAtOnce];
    const ssize_t count = ::fi_cq_read(endpoint_->queue().get(), entries, kCompletionsAtOnce);
    if (count == -FI_EAGAIN) continue;
    looks = 0;
    ended_ns = now;
    for (ssize_t i = 0; i < count; ++i) {
      completed(*static_cast<Operation*>(entries[i].op_context), 0, now);
    }
    if (count > 0) continue;
    fi_cq_err_entry entry{};
    if (count != -FI_EAVAIL || ::fi_cq_readerr(endpoint_->queue().get(), &entry, 0) != 1) break;
    if (entry.op_context != nullptr) ++failed;
  }
}

void FabricEngine::close_endpoint() {
  if (endpoint_ && progress_.outstanding.load() > 0) cut_connections();
  endpoint_.reset();
  contacted_.clear();
  progress_.wake_caller();
}

// After the endpoint was closed: nothing touches memory for them any more.
void FabricEngine::end_operations(Code code) {
  for (Operation& operation : work_.operations) {
    Job* job = std::exchange(operation.job, nullptr);
    if (job == nullptr) continue;
    ++counters_.ended;
    if (job->slice != nullptr && job->slice->opcode == Opcode::kWrite) fence(*job->path);
    if (--job->outstanding > 0) continue;
    if (job->slice == nullptr) {
      work_.free_jobs.push_back(job);
      continue;
    }
    if (job->path->link.partial == job) job->path->link.partial = nullptr;
    finish(*job, job->code == Code::kOk ? code : job->code);
  }
  progress_.outstanding.store(0);
}

void FabricEngine::renew_if_due(int64_t now) {
  const char* why = "a connection broke";
  if (now - watch_.last_ns >= kWatchNs) {
    watch_.last_ns = now;
    if (renewal_.queue_failed || (watch_.on && stuck(now))) {
      renewal_.wanted = true;
      why = "operations did not end";
    }
  }
  if (!renewal_.wanted) return;
  renew(error(Code::kUnavailable, "{}: the endpoint was closed, since {}", domain_.device(), why));
}

void FabricEngine::renew(const Status& why) {
  log_debug("{}", why.message());
  renewal_.wanted = false;
  for (const auto& [path, owner] : known_) {
    if (of(*path).link.outstanding > 0 && path->last_error().ok()) path->set_error(why);
  }
  close_endpoint();
  end_operations(Code::kUnavailable);
  peers_.clear();
  std::vector<FabricRail*> gone;
  for (const auto& [each, owner] : known_) {
    FabricRail& path = of(*each);
    Link& link = path.link;
    if (path.retired) gone.push_back(&path);
    const bool connecting =
        link.state == Link::State::kOpening || link.state == Link::State::kProbing;
    path.wanted = path.wanted || connecting;
    if (path.wanted || !path.queue.empty()) activate(path);
    // What was posted in part cannot go on where it stood.
    if (Job* partial = std::exchange(link.partial, nullptr); partial != nullptr) {
      finish(*partial, Code::kUnavailable);
    }
    forget_reads(path);
    link.state = Link::State::kIdle;
    link.failed = link.inserted = link.probe_posted = false;
    link.outstanding = 0;
    link.outstanding_bytes = 0;
    link.unwanted_since_ns = 0;
    link.blocked_since_ns = 0;
    if (path.state.load() != PathState::kFailed) path.state.store(PathState::kIdle);
    rail_idle(path);
  }
  for (FabricRail* path : gone) leave(*path);
}

}  // namespace te::fabric
