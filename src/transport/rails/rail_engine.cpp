#include "transport/rails/rail_engine.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/log.h"

namespace te::rails {

void RailEngine::submitted(SliceList slices) {
  const int64_t now = now_ns();
  while (!slices.empty()) {
    Rail& rail = *static_cast<Rail*>(slices.first->path);
    while (!slices.empty() && slices.first->path == &rail) rail.queue.push(slices.pop());
    know(rail);
    // Others that wait had what there is when completions were looked at last.
    if (advance_rail(rail, now)) activate(rail);
  }
}

void RailEngine::advance() {
  if (active_.empty()) return;
  const int64_t now = now_ns();
  for (size_t i = 0; i < active_.size();) {
    Rail& rail = *active_[i];
    if (advance_rail(rail, now)) {
      ++i;
      continue;
    }
    rail.active = false;
    active_[i] = active_.back();
    active_.pop_back();
  }
  // Another one goes first next time.
  if (active_.size() > 1) std::rotate(active_.begin(), active_.begin() + 1, active_.end());
}

void RailEngine::command(Rail& rail, void (RailEngine::*what)(Rail&)) {
  (void)progress_.command([this, owner = rail.shared_from_this(), what]()
                              TE_REQUIRES(progress_.lock) { (this->*what)(*owner); });
}

void RailEngine::connect_now(Rail& rail) {
  if (rail.retired) return;  // who wanted it connected came late
  rail.wanted = true;
  know(rail);
  activate(rail);
}

void RailEngine::sweep_now(Rail& rail) {
  if (rail.rails()) progress_.complete(rail.rails()->take_cancelled(), Code::kCancelled);
  SliceList cancelled = take_cancelled(rail.queue);
  while (!cancelled.empty()) return_slice(rail, cancelled.pop(), Code::kCancelled, 0);
  sweep_under_way(rail);
}

void RailEngine::reset_now(Rail& rail) {
  const Status why = error(Code::kUnavailable, "{}: the path to {} was reset",
                           rail.transport.name(), rail.remote_address);
  rail.set_error(why);
  reset_connection(rail, why);
  if (rail.rails()) progress_.complete(rail.rails()->take_all(), Code::kUnavailable);
  return_queue(rail, Code::kUnavailable);
}

void RailEngine::know(Rail& rail) {
  if (std::exchange(rail.known, true)) return;
  known_.try_emplace(&rail, rail.shared_from_this());
}

void RailEngine::activate(Rail& rail) {
  if (rail.retired || std::exchange(rail.active, true)) return;
  active_.push_back(&rail);
}

void RailEngine::forget(Rail& rail) {
  std::erase(active_, &rail);
  rail.active = rail.known = false;
  known_.erase(&rail);
}

std::map<Rail*, std::shared_ptr<Rail>> RailEngine::forget_all() {
  active_.clear();
  return std::exchange(known_, {});
}

void RailEngine::rail_ready(Rail& rail) {
  rail.state.store(PathState::kReady);
  if (!rail.rails()) return;
  rail.rails()->ready(rail.place());
  progress_.advance_later(rail.rails());
}

void RailEngine::rail_idle(Rail& rail) {
  PathState before = PathState::kReady;
  rail.state.compare_exchange_strong(before, PathState::kIdle);
  if (!rail.rails()) return;
  rail.rails()->idle(rail.place());
  progress_.advance_later(rail.rails());
}

void RailEngine::rail_failed(Rail& rail, Code code) {
  if (!rail.rails()) return;
  progress_.complete(rail.rails()->failed(rail.place()), code);
  progress_.advance_later(rail.rails());
}

void RailEngine::return_slice(Rail& rail, Slice* slice, Code code, int64_t posted_ns) {
  if (const std::shared_ptr<PeerRails>& peer = rail.rails(); peer) {
    peer->completed(rail.place(), slice->length, code, posted_ns);
    progress_.advance_later(peer);
  }
  progress_.complete(slice, code);
}

void RailEngine::return_queue(Rail& rail, Code code) {
  while (!rail.queue.empty()) return_slice(rail, rail.queue.pop(), code, 0);
}

void RailEngine::hand_back(Rail& rail) {
  SliceList reversed;
  while (!rail.queue.empty()) reversed.push_front(rail.queue.pop());
  while (!reversed.empty()) {
    Slice* slice = reversed.pop();
    if (!rail.rails()->take_back(rail.place(), slice)) {
      return_slice(rail, slice, Code::kUnavailable, 0);
    }
  }
  progress_.advance_later(rail.rails());
}

}  // namespace te::rails
