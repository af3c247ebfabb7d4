#include "transport/rails/rail_queue.h"

namespace te::rails {

size_t RailQueue::add(Path& path, RateEstimator& device, uint64_t bytes_per_s, double handicap,
                      uint32_t max_slices) {
  members_.push_back({&path, 0, 0});
  return schedule_.add(device, bytes_per_s, handicap, max_slices);
}

void RailQueue::push(SliceList& slices) {
  for (const Slice* slice = slices.first; slice != nullptr; slice = slice->next) {
    waiting_bytes_ += slice->length;
  }
  waiting_.append(slices);
}

void RailQueue::push_front(Slice* slice) {
  waiting_bytes_ += slice->length;
  waiting_.push_front(slice);
}

Slice* RailQueue::pop() {
  Slice* slice = waiting_.pop();
  waiting_bytes_ -= slice->length;
  return slice;
}

SliceList RailQueue::take_all() {
  SliceList all;
  all.append(waiting_);
  waiting_bytes_ = 0;
  return all;
}

SliceList RailQueue::take_cancelled() {
  SliceList cancelled = te::take_cancelled(waiting_);
  for (const Slice* slice = cancelled.first; slice != nullptr; slice = slice->next) {
    waiting_bytes_ -= slice->length;
  }
  return cancelled;
}

size_t RailQueue::choose(int64_t now_ns, std::span<const double> penalties) const {
  const uint64_t bytes = waiting_.first->length;
  return schedule_.choose(bytes, waiting_bytes_ - bytes, now_ns, penalties);
}

Slice* RailQueue::bind(size_t path, int64_t now_ns) {
  Slice* slice = pop();
  Path* chosen = members_[path].path;
  if (slice->path != chosen) {
    chosen->inflight_bytes.fetch_add(slice->length, std::memory_order_relaxed);
    slice->path->inflight_bytes.fetch_sub(slice->length, std::memory_order_relaxed);
    slice->path = chosen;
  }
  schedule_.posted(path, slice->length, now_ns);
  return slice;
}

void RailQueue::completed(size_t path, uint64_t bytes, int64_t posted_ns, int64_t now_ns) {
  members_[path].failures = 0;
  schedule_.completed(path, bytes, posted_ns, now_ns);
}

void RailQueue::returned(size_t path, uint64_t bytes, int64_t now_ns) {
  schedule_.returned(path, bytes, now_ns);
}

void RailQueue::ready(size_t path) {
  schedule_.set_usable(path, true);
  members_[path].rest_until_ns = 0;
  members_[path].path->resting.store(false);
  members_[path].path->state.store(PathState::kReady);
}

void RailQueue::idle(size_t path) {
  schedule_.set_usable(path, false);
  members_[path].path->state.store(PathState::kIdle);
}

void RailQueue::failed(size_t path, int64_t now_ns) {
  Member& member = members_[path];
  schedule_.set_usable(path, false);
  member.rest_until_ns = now_ns + rest_ns(++member.failures);
  member.path->resting.store(true);
  member.path->state.store(PathState::kFailed);
}

void RailQueue::forgive(size_t path) {
  if (members_[path].rest_until_ns != 0) members_[path].rest_until_ns = 1;
}

}  // namespace te::rails
