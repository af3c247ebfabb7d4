#include "engine/staging.h"

#include <algorithm>

#include "base/log.h"
#include "engine/staged_transfer.h"
#include "engine/transfers.h"

namespace te {
namespace {

constexpr size_t kLeasesKept = 64;  // unused

Status engine_ends() { return Status(Code::kCancelled, "the engine ends"); }

}  // namespace

void Staging::start(StagedRequest request) {
  Task& task = *request.task;
  bool taken = false;
  {
    MutexLock lock(mutex_);
    if (!stopping_) {
      waiting_.push_back(std::move(request));
      taken = true;
    }
  }
  if (!taken) return transfers_.end(&task.first, Code::kCancelled, engine_ends());
  if (workers_.run([this] { work(); })) return;
  // Where no thread can be made, somebody else's look at the line does not come either.
  {
    MutexLock lock(mutex_);
    const auto found =
        std::find_if(waiting_.begin(), waiting_.end(),
                     [&task](const StagedRequest& each) { return each.task == &task; });
    if (found == waiting_.end()) return;
    waiting_.erase(found);
  }
  transfers_.end(&task.first, Code::kResource,
                 Status(Code::kResource, "there is no thread to copy the bytes: raise ulimit -u"));
}

// Until there is nothing for it: what found no worker of its peer left is for one that ends.
void Staging::work() {
  for (uint64_t instance = 0;;) {
    StagedRequest request;
    {
      MutexLock lock(mutex_);
      if (instance != 0 && --under_way_[instance] == 0) under_way_.erase(instance);
      if (!take(request)) return;
      instance = request.instance;
      ++under_way_[instance];
    }
    run(request);
  }
}

bool Staging::take(StagedRequest& request) {
  const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                  [this](const StagedRequest& each) TE_REQUIRES(mutex_) {
                                    const auto busy = under_way_.find(each.instance);
                                    return busy == under_way_.end() || busy->second < kPerPeer;
                                  });
  if (found == waiting_.end()) return false;
  request = std::move(*found);
  waiting_.erase(found);
  return true;
}

void Staging::run(StagedRequest& request) {
  Task& task = *request.task;
  StagedTransfer transfer(*this, request);
  const Status status = transfer.run();
  if (status.ok()) return transfers_.staged(task);
  if (task.first.cancelled()) return transfers_.end(&task.first, Code::kCancelled, Status());
  if (transfer.worth_another()) return transfers_.stage_again(task);
  transfers_.end(&task.first, status.code(), status);
}

void Staging::sweep() {
  std::vector<Task*> cancelled;
  {
    MutexLock lock(mutex_);
    std::erase_if(waiting_, [&cancelled](const StagedRequest& each) {
      if (!each.task->first.cancelled()) return false;
      cancelled.push_back(each.task);
      return true;
    });
  }
  for (Task* task : cancelled) transfers_.end(&task->first, Code::kCancelled, Status());
}

void Staging::stop() {
  std::deque<StagedRequest> waiting;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    waiting.swap(waiting_);
  }
  for (const StagedRequest& each : waiting) {
    transfers_.end(&each.task->first, Code::kCancelled, engine_ends());
  }
  workers_.stop();
}

Result<std::byte*> Staging::take_parts() {
  {
    MutexLock lock(mutex_);
    if (!parts_.empty()) {
      std::byte* parts = parts_.back();
      parts_.pop_back();
      return parts;
    }
  }
  return memory_.allocate_own(kParts * config_.staging_part_bytes, Rights::kNone);
}

void Staging::give_back_parts(std::byte* parts) {
  MutexLock lock(mutex_);
  parts_.push_back(parts);
}

std::optional<StageLease> Staging::take_lease(uint64_t instance) {
  MutexLock lock(mutex_);
  const auto found = leases_.find(instance);
  if (found == leases_.end()) return std::nullopt;
  const StageLease lease = found->second;
  leases_.erase(found);
  return lease;
}

void Staging::give_back_lease(const StageLease& lease) {
  std::optional<StageLease> dropped;
  {
    MutexLock lock(mutex_);
    if (leases_.size() >= kLeasesKept) {
      dropped = leases_.begin()->second;
      leases_.erase(leases_.begin());
    }
    leases_.emplace(lease.instance, lease);
  }
  if (dropped) close_lease(*dropped, false);
}

void Staging::close_lease(const StageLease& lease, bool writes) {
  const stage::Close hello{lease.id};
  if (!writes) {
    (void)ask(lease.instance, hello);
    return;
  }
  Peer peer;
  peer.instance = lease.instance;
  host_.fence(peer, stage::kName, stage::encode(hello));
}

Staging::Answered Staging::ask(uint64_t instance, const stage::Hello& hello) {
  auto answer = std::make_shared<StageAnswer>();
  Peer peer;
  peer.instance = instance;
  host_.exchange(peer, stage::kName, stage::encode(hello),
                 [answer](Result<Bytes> bytes) { answer->set(std::move(bytes)); });
  return answer;
}

}  // namespace te
