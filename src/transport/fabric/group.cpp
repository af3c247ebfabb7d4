#include "transport/fabric/group.h"

#include <algorithm>

#include "base/clock.h"
#include "transport/fabric/initiator.h"
#include "transport/fabric/path.h"

namespace te::fabric {
namespace {

// Of a path between cards that are not each other's first choice.
constexpr double kSecondChoice = 2;

}  // namespace

void Group::add(const std::shared_ptr<FabricPath>& path, bool preferred) {
  MutexLock lock(mutex_);
  Initiator& initiator = path->initiator();
  members_.push_back({path, initiator.card(), path->remote_card(), preferred, false});
  remote_cards_ |= uint64_t{1} << path->remote_card();
  penalties_.push_back(0);
  queue_.add(*path, initiator.pipe(), initiator.bytes_per_s(), preferred ? 1 : kSecondChoice,
             initiator.most_slices());
}

bool Group::post(SliceList& slices) {
  {
    MutexLock lock(mutex_);
    if (closed_) return false;
    queue_.push(slices);
  }
  advance();
  return true;
}

void Group::find_penalties(const Slice& slice) {
  const uint64_t here =
      local_memory_ == nullptr ? ~uint64_t{0} : local_memory_->nics_of(slice.local).all;
  const CardSet there = Key::nics_of(slice.key);
  for (size_t i = 0; i < members_.size(); ++i) {
    const bool reaches =
        (here >> members_[i].local & 1) != 0 && (there >> members_[i].remote & 1) != 0;
    penalties_[i] = reaches ? 1 : 0;
  }
}

bool Group::hope() const {
  return queue_.any_usable() || std::any_of(members_.begin(), members_.end(),
                                            [](const Member& each) { return each.connecting; });
}

bool Group::untried(size_t index) const {
  return !members_[index].connecting && !queue_.usable(index) && !queue_.doubtful(index);
}

std::vector<std::shared_ptr<FabricPath>> Group::to_connect(int64_t now) {
  bool preferred_failed = false, any_untried = false, all_untried = true;
  for (size_t i = 0; i < members_.size(); ++i) {
    all_untried = all_untried && untried(i);
    preferred_failed = preferred_failed || (members_[i].preferred && queue_.doubtful(i));
    any_untried = any_untried || untried(i);
  }
  const bool hopeless = !hope();
  std::vector<std::shared_ptr<FabricPath>> result;
  for (size_t i = 0; i < members_.size(); ++i) {
    Member& member = members_[i];
    if (member.connecting || queue_.usable(i)) continue;
    const bool wanted = member.preferred || preferred_failed;
    const bool rested = !queue_.resting(i, now);
    if (!(wanted && rested) && !(hopeless && (untried(i) || !any_untried))) continue;
    std::shared_ptr<FabricPath> path = member.path.lock();
    if (!path) continue;
    member.connecting = true;
    result.push_back(std::move(path));
    // One is enough for little; what still waits when it is there asks for the others.
    if (all_untried) break;
  }
  return result;
}

void Group::advance() {
  std::vector<std::pair<size_t, SliceList>> handed;
  std::vector<std::shared_ptr<FabricPath>> connect;
  {
    MutexLock lock(mutex_);
    const int64_t now = now_ns();
    while (!queue_.empty()) {
      const Slice& slice = *queue_.front();
      find_penalties(slice);
      size_t chosen = rails::PathQueue::kNone;
      if (std::all_of(penalties_.begin(), penalties_.end(),
                      [](double each) { return each == 0; })) {
        chosen = static_cast<FabricPath*>(slice.path)->place();  // it says why it cannot
      } else {
        chosen = queue_.choose(now, penalties_);
      }
      if (chosen == rails::PathQueue::kNone) break;
      auto found = std::find_if(handed.begin(), handed.end(),
                                [chosen](const auto& each) { return each.first == chosen; });
      if (found == handed.end()) found = handed.insert(handed.end(), {chosen, {}});
      found->second.push(queue_.bind(chosen, now));
    }
    if (!queue_.empty()) connect = to_connect(now);
  }
  // What is handed over keeps its path.
  for (auto& [index, slices] : handed) {
    FabricPath& path = *static_cast<FabricPath*>(slices.first->path);
    path.initiator().post(path, slices);
  }
  for (const std::shared_ptr<FabricPath>& path : connect) path->initiator().connect(*path);
}

void Group::ready(size_t path) {
  MutexLock lock(mutex_);
  members_[path].connecting = false;
  queue_.ready(path);
}

void Group::idle(size_t path) {
  MutexLock lock(mutex_);
  members_[path].connecting = false;
  queue_.idle(path);
  queue_.forgive(path);
}

SliceList Group::failed(size_t path) {
  MutexLock lock(mutex_);
  members_[path].connecting = false;
  queue_.failed(path, now_ns());
  bool way_out = hope();
  for (size_t i = 0; i < members_.size() && !way_out; ++i) way_out = untried(i);
  return way_out ? SliceList() : queue_.take_all();
}

std::vector<std::shared_ptr<FabricPath>> Group::others(size_t path) const {
  std::vector<std::shared_ptr<FabricPath>> result;
  MutexLock lock(mutex_);
  for (size_t i = 0; i < members_.size(); ++i) {
    std::shared_ptr<FabricPath> other = members_[i].path.lock();
    if (i != path && other) result.push_back(std::move(other));
  }
  return result;
}

void Group::ended(size_t path, uint64_t bytes, Code code, int64_t posted_ns) {
  MutexLock lock(mutex_);
  if (code == Code::kOk) {
    queue_.completed(path, bytes, posted_ns, now_ns());
  } else {
    queue_.returned(path, bytes, now_ns());
  }
}

SliceList Group::take_cancelled() {
  MutexLock lock(mutex_);
  return queue_.take_cancelled();
}

SliceList Group::take_all() {
  MutexLock lock(mutex_);
  return queue_.take_all();
}

SliceList Group::close() {
  MutexLock lock(mutex_);
  closed_ = true;
  return queue_.take_all();
}

}  // namespace te::fabric
