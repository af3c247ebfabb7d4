#include "engine/fences.h"

#include <algorithm>

#include "base/log.h"

namespace te {
namespace {

// Whether nothing of the old WRITEs can arrive: the target says so, or it has no such transport
// any more, or this run of it is gone.
bool is_fenced(Code code) {
  return code == Code::kOk || code == Code::kStale || code == Code::kUnsupported;
}

}  // namespace

void Fences::add(const Peer& peer, std::string_view transport, Bytes hello) {
  auto fence = std::make_shared<Fence>(Fence{peer, std::string(transport), std::move(hello), true});
  {
    MutexLock lock(mutex_);
    if (stopping_) return;
    std::vector<FenceRef>& fences = peers_[peer.instance].fences;
    const bool known = std::any_of(fences.begin(), fences.end(), [&](const FenceRef& other) {
      return other->transport == transport && other->hello == fence->hello;
    });
    if (known) return;
    fence->finds = finds_;
    fences.push_back(fence);
    peers_count_.store(peers_.size());
  }
  ask(fence);
}

void Fences::found(uint64_t instance) {
  MutexLock lock(mutex_);
  ++finds_;
  auto node = lost_.extract(instance);
  if (node.empty() || stopping_) return;
  std::vector<FenceRef>& fences = peers_[instance].fences;
  fences.insert(fences.end(), node.mapped().begin(), node.mapped().end());
  peers_count_.store(peers_.size());
}

void Fences::ask(const FenceRef& fence) {
  ask_(fence->peer, fence->transport, fence->hello,
       [this, fence](const Result<Bytes>& answer) { answered(fence, answer); });
}

void Fences::answered(const FenceRef& fence, const Result<Bytes>& answer) {
  SliceList free, failed;
  {
    MutexLock lock(mutex_);
    fence->asked = false;
    const auto found = peers_.find(fence->peer.instance);
    if (found == peers_.end()) return;
    if (is_fenced(answer.code())) {
      std::erase(found->second.fences, fence);
      if (!found->second.fences.empty()) return;
      free = found->second.held;
      peers_.erase(found);
      peers_count_.store(peers_.size());
    } else {
      failed = std::exchange(found->second.held, {});
      if (answer.code() == Code::kNotFound && fence->finds == finds_) {
        lost_[fence->peer.instance] = std::move(found->second.fences);
        peers_.erase(found);
        peers_count_.store(peers_.size());
      }
    }
  }
  if (!failed.empty()) {
    const Status why = answer.status().with_context(
        fmt::format("{}: a WRITE waits for the target to rule out that an earlier, failed WRITE "
                    "still arrives, which it cannot be asked now",
                    fence->transport));
    for (Slice* slice = failed.first; slice != nullptr; slice = slice->next) {
      slice->path->set_error(why);
    }
    give_back(failed, Code::kUnavailable);
  }
  if (!free.empty()) release_(free);
}

void Fences::give_back(SliceList slices, Code code) const {
  while (!slices.empty()) give_back_(slices.pop(), code);
}

SliceList Fences::hold(SliceList slices) {
  SliceList rest;
  std::vector<FenceRef> wanted;
  {
    MutexLock lock(mutex_);
    while (!slices.empty()) {
      Slice* slice = slices.pop();
      const auto found =
          slice->opcode == Opcode::kWrite ? peers_.find(slice->task->instance) : peers_.end();
      if (found == peers_.end()) {
        rest.push(slice);
        continue;
      }
      found->second.held.push(slice);
      for (const FenceRef& fence : found->second.fences) {
        if (std::exchange(fence->asked, true)) continue;
        fence->finds = finds_;
        wanted.push_back(fence);
      }
    }
  }
  for (const FenceRef& fence : wanted) ask(fence);
  return rest;
}

void Fences::sweep() {
  if (!any()) return;
  SliceList cancelled;
  {
    MutexLock lock(mutex_);
    for (auto& [instance, peer] : peers_) {
      SliceList of_peer = take_cancelled(peer.held);
      cancelled.append(of_peer);
    }
  }
  give_back(cancelled, Code::kCancelled);
}

void Fences::stop() {
  SliceList held;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    for (auto& [instance, peer] : peers_) held.append(peer.held);
    peers_.clear();
    peers_count_.store(0);
  }
  give_back(held, Code::kCancelled);
}

}  // namespace te
