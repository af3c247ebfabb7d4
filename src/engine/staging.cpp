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

void Staging::start(std::vector<StagedRequest> requests) {
  size_t fresh = 0;
  bool taken = false;
  {
    MutexLock lock(mutex_);
    taken = !stopping_;
    for (size_t i = 0; taken && i < requests.size(); ++i) fresh += add(requests[i]) ? 1 : 0;
  }
  if (!taken) {
    for (const StagedRequest& each : requests) {
      transfers_.end(each.range.slice, Code::kCancelled, engine_ends());
    }
    return;
  }
  while (fresh > 0 && workers_.run([this] { work(); })) --fresh;
  if (fresh == 0) return;
  // Where no thread can be made, there is none that would look at what waits.
  std::map<uint64_t, Waiting> waiting;
  {
    MutexLock lock(mutex_);
    for (auto& [instance, each] : waiting_) waiting[instance].groups.swap(each.groups);
  }
  for (const auto& [instance, each] : waiting) {
    for (const StagedGroup& group : each.groups) {
      end(group, Code::kResource,
          Status(Code::kResource, "there is no thread to copy the bytes: raise ulimit -u"));
    }
  }
}

bool Staging::add(StagedRequest& request) {
  std::deque<StagedGroup>& groups = waiting_[request.instance].groups;
  const bool joins = !groups.empty() && fits(groups.back(), request);
  if (!joins) {
    groups.push_back(
        {request.ends, request.instance, std::move(request.segment), std::vector<StagedRange>()});
  }
  groups.back().add(request.range);
  return !joins;
}

bool Staging::fits(const StagedGroup& group, const StagedRequest& request) const {
  const Slice& slice = *request.range.slice;
  return group.submission() == slice.task->submission && group.opcode() == slice.opcode &&
         group.segment == request.segment && group.ends.local == request.ends.local &&
         group.ends.remote == request.ends.remote && group.ranges.size() < kGroupRanges &&
         group.bytes + request.range.length <= kGroupParts * config_.staging_part_bytes;
}

// Until there is nothing for it: what found no worker of its peer left is for one that ends.
void Staging::work() {
  for (uint64_t instance = 0;;) {
    StagedGroup group;
    {
      MutexLock lock(mutex_);
      if (instance != 0) give_back_worker(instance);
      if (!take(group)) return;
      instance = group.instance;
    }
    run(group);
  }
}

void Staging::give_back_worker(uint64_t instance) {
  const auto found = waiting_.find(instance);
  if (--found->second.under_way == 0 && found->second.groups.empty()) waiting_.erase(found);
}

bool Staging::take(StagedGroup& group) {
  auto each = waiting_.upper_bound(last_taken_);
  for (size_t i = 0; i < waiting_.size(); ++i, ++each) {
    if (each == waiting_.end()) each = waiting_.begin();
    Waiting& waiting = each->second;
    if (waiting.groups.empty() || waiting.under_way == kPerPeer) continue;
    group = std::move(waiting.groups.front());
    waiting.groups.pop_front();
    ++waiting.under_way;
    last_taken_ = each->first;
    return true;
  }
  return false;
}

// A group that failed is divided until the ranges that fail are alone.
void Staging::run(StagedGroup& group) {
  StagedTransfer transfer(*this, group);
  const Status status = transfer.run();
  const bool again = transfer.worth_another();
  std::vector<StagedRange> left;
  for (size_t i = 0; i < group.ranges.size(); ++i) {
    const StagedRange& range = group.ranges[i];
    if (transfer.done(i)) {
      transfers_.staged(*range.slice);
    } else if (range.slice->cancelled()) {
      transfers_.end(range.slice, Code::kCancelled, Status());
    } else if (again) {
      transfers_.stage_again(*range.slice);
    } else {
      left.push_back(range);
    }
  }
  if (left.empty()) return;
  if (left.size() == 1) return transfers_.end(left.front().slice, status.code(), status);
  group.ranges = std::move(left);
  run_halves(std::move(group));
}

void Staging::run_halves(StagedGroup group) {
  const size_t half = group.ranges.size() / 2;
  StagedGroup second{group.ends, group.instance, group.segment, std::vector<StagedRange>()};
  for (size_t i = half; i < group.ranges.size(); ++i) second.add(group.ranges[i]);
  group.ranges.resize(half);
  run(group);
  run(second);
}

void Staging::end(const StagedGroup& group, Code code, const Status& why) {
  for (const StagedRange& each : group.ranges) transfers_.end(each.slice, code, why);
}

void Staging::sweep() {
  std::vector<StagedGroup> cancelled;
  {
    MutexLock lock(mutex_);
    for (auto& [instance, waiting] : waiting_) {
      std::erase_if(waiting.groups, [&cancelled](StagedGroup& each) {
        if (!each.cancelled()) return false;
        cancelled.push_back(std::move(each));
        return true;
      });
    }
    std::erase_if(waiting_, [](const auto& each) {
      return each.second.groups.empty() && each.second.under_way == 0;
    });
  }
  for (const StagedGroup& group : cancelled) end(group, Code::kCancelled, Status());
}

void Staging::stop() {
  std::map<uint64_t, Waiting> waiting;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    for (auto& [instance, each] : waiting_) waiting[instance].groups.swap(each.groups);
  }
  for (const auto& [instance, each] : waiting) {
    for (const StagedGroup& group : each.groups) end(group, Code::kCancelled, engine_ends());
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
