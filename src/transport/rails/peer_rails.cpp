#include "transport/rails/peer_rails.h"

#include <algorithm>

#include "base/clock.h"
#include "transport/rails/rail_engine.h"

namespace te::rails {
namespace {

// What a rail costs between NICs that are not each other's first choice.
constexpr double kSecondChoice = 2;
// And one whose NIC is not near the memory, here and there.
constexpr double kFarLocal = 1.5;
constexpr double kFarRemote = 1.25;

bool has(NicSet nics, size_t nic) { return (nics >> nic & 1) != 0; }

}  // namespace

bool Rail::reaches(const std::byte* key) const {
  return rails_ ? rails_->reaches(key) : has(Key::nics_of(key), remote);
}

bool Rail::over() const { return gone_.load() || (rails_ && rails_->ended() != Code::kOk); }

void PeerRails::add(const std::shared_ptr<Rail>& rail, const NicSpeed& speed, bool preferred) {
  MutexLock lock(mutex_);
  members_.push_back({rail, rail->local, rail->remote, preferred, false});
  remote_nics_ |= NicSet{1} << rail->remote;
  penalties_.push_back(0);
  queue_.add(*rail, speed.rate, speed.bytes_per_s, preferred ? 1 : kSecondChoice,
             speed.most_slices);
}

Code PeerRails::submit(SliceList& slices) {
  {
    MutexLock lock(mutex_);
    if (const Code code = ended_.load(); code != Code::kOk) return code;
    queue_.push(slices);
    slices = {};
  }
  advance();
  return Code::kOk;
}

bool PeerRails::find_penalties(const Slice& slice) {
  NicAffinity::Nics here;
  here.all = ~NicSet{0};
  if (options_.local_memory != nullptr) here = options_.local_memory->nics_of(slice.local);
  const NicSet there = Key::nics_of(slice.key), near_there = Key::near_of(slice.key);
  bool any = false;
  for (size_t i = 0; i < members_.size(); ++i) {
    const Member& member = members_[i];
    const bool reaches = has(here.all, member.local) && has(there, member.remote);
    const bool far_here = here.near != 0 && !has(here.near, member.local);
    const bool far_there = near_there != 0 && !has(near_there, member.remote);
    penalties_[i] = reaches ? (far_here ? kFarLocal : 1) * (far_there ? kFarRemote : 1) : 0;
    any = any || reaches;
  }
  return any;
}

bool PeerRails::hope() const {
  return queue_.any_usable() || std::any_of(members_.begin(), members_.end(),
                                            [](const Member& each) { return each.connecting; });
}

bool PeerRails::untried(size_t place) const {
  return !members_[place].connecting && !queue_.usable(place) && !queue_.doubtful(place);
}

bool PeerRails::way_out() const {
  bool any = hope();
  for (size_t i = 0; i < members_.size() && !any; ++i) any = untried(i);
  return any;
}

std::vector<std::shared_ptr<Rail>> PeerRails::to_connect(int64_t now) {
  bool preferred_failed = false, any_untried = false, all_untried = true;
  for (size_t i = 0; i < members_.size(); ++i) {
    all_untried = all_untried && untried(i);
    preferred_failed = preferred_failed || (members_[i].preferred && queue_.doubtful(i));
    any_untried = any_untried || untried(i);
  }
  const bool hopeless = !hope();
  std::vector<std::shared_ptr<Rail>> result;
  for (size_t i = 0; i < members_.size(); ++i) {
    Member& member = members_[i];
    if (member.connecting || queue_.usable(i)) continue;
    const bool wanted = member.preferred || preferred_failed;
    const bool rested = !queue_.resting(i, now);
    if (!(wanted && rested) && !(hopeless && (untried(i) || !any_untried))) continue;
    std::shared_ptr<Rail> rail = member.rail.lock();
    if (!rail) continue;
    member.connecting = true;
    result.push_back(std::move(rail));
    // One is enough for little; what still waits when it is there asks for the others.
    if (all_untried) break;
  }
  return result;
}

void PeerRails::advance() {
  std::vector<std::pair<size_t, SliceList>> handed;
  std::vector<std::shared_ptr<Rail>> connect;
  {
    MutexLock lock(mutex_);
    const int64_t now = queue_.empty() ? 0 : now_ns();
    while (!queue_.empty()) {
      const Slice& slice = *queue_.front();
      size_t chosen = RailQueue::kNone;
      if (find_penalties(slice)) {
        chosen = queue_.choose(now, penalties_);
      } else {
        chosen = static_cast<Rail*>(slice.path)->place();  // it says why it cannot
      }
      if (chosen == RailQueue::kNone) break;
      auto found = std::find_if(handed.begin(), handed.end(),
                                [chosen](const auto& each) { return each.first == chosen; });
      if (found == handed.end()) found = handed.insert(handed.end(), {chosen, {}});
      found->second.push(queue_.bind(chosen, now));
    }
    if (!queue_.empty()) connect = to_connect(now);
  }
  // What is handed over keeps its rail.
  for (auto& [place, slices] : handed) {
    static_cast<Rail*>(slices.first->path)->engine.progress().submit(slices);
  }
  for (const std::shared_ptr<Rail>& rail : connect) rail->engine.connect(*rail);
}

void PeerRails::ready(size_t place) {
  MutexLock lock(mutex_);
  members_[place].connecting = false;
  dead_ = false;
  queue_.ready(place);
}

void PeerRails::idle(size_t place) {
  MutexLock lock(mutex_);
  members_[place].connecting = false;
  queue_.idle(place);
  queue_.forgive(place);
}

SliceList PeerRails::failed(size_t place) {
  MutexLock lock(mutex_);
  members_[place].connecting = false;
  queue_.failed(place, now_ns());
  if (way_out()) return {};
  // Slices that come after the first were returned have no other way, and wait.
  if (std::exchange(dead_, true) && options_.reconnects) return {};
  return queue_.take_all();
}

std::vector<std::shared_ptr<Rail>> PeerRails::others(size_t place) const {
  std::vector<std::shared_ptr<Rail>> result;
  MutexLock lock(mutex_);
  for (size_t i = 0; i < members_.size(); ++i) {
    std::shared_ptr<Rail> other = members_[i].rail.lock();
    if (i != place && other) result.push_back(std::move(other));
  }
  return result;
}

void PeerRails::completed(size_t place, uint64_t bytes, Code code, int64_t posted_ns) {
  MutexLock lock(mutex_);
  if (code == Code::kOk) {
    queue_.completed(place, bytes, posted_ns, now_ns());
  } else {
    queue_.returned(place, bytes, now_ns());
  }
}

bool PeerRails::take_back(size_t place, Slice* slice) {
  MutexLock lock(mutex_);
  if (dead_ || ended_.load() != Code::kOk) return false;
  queue_.returned(place, slice->length, now_ns());
  queue_.push_front(slice);
  return true;
}

SliceList PeerRails::take_cancelled() {
  MutexLock lock(mutex_);
  return queue_.take_cancelled();
}

SliceList PeerRails::take_all() {
  MutexLock lock(mutex_);
  return queue_.take_all();
}

SliceList PeerRails::end(Code code) {
  MutexLock lock(mutex_);
  ended_.store(code);
  return queue_.take_all();
}

}  // namespace te::rails
