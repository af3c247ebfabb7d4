#include "transport/tcp/lane_requests.h"

#include "base/guarded_copy.h"

namespace te::tcp {
namespace {

bool can_be_read(const Slice& slice) { return is_readable(slice.local, slice.length); }

}  // namespace

bool LaneRequests::enqueue(SliceList& slices, uint64_t bytes) {
  uint64_t count = 0;
  for (const Slice* slice = slices.first; slice != nullptr; slice = slice->next) ++count;
  MutexLock lock(queue_mutex_);
  if (closed_) return false;
  load_.fetch_add(bytes, std::memory_order_relaxed);
  queue_.append(slices);
  queued_.fetch_add(count);
  return true;
}

void LaneRequests::take(OutgoingFrame& frame) {
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  const uint64_t room =
      limit_.load(std::memory_order_relaxed) - (tail - head_.load(std::memory_order_acquire));
  frame.clear();
  {
    MutexLock lock(queue_mutex_);
    while (frame.count() < room && !queue_.empty() && frame.takes(*queue_.first)) {
      Slice* slice = queue_.pop();
      at(tail + frame.count()) = {slice, slice->length, slice->opcode};
      frame.add(*slice);
    }
  }
  if (frame.count() == 0) return;
  queued_.fetch_sub(frame.count());
  tail_.store(tail + frame.count());
}

void LaneRequests::frame_left(uint64_t completed_below) {
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  if (completed_below != 0) {
    for (uint64_t i = sent_tail_.load(std::memory_order_relaxed); i < tail; ++i) {
      at(i).completed_below = completed_below;
    }
  }
  sent_tail_.store(tail, std::memory_order_release);
}

bool LaneRequests::leave_out_unreadable(OutgoingFrame& frame) {
  const uint64_t first = sent_tail_.load(std::memory_order_relaxed);
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  SliceList unreadable;
  frame.clear();
  for (uint64_t i = first; i < tail; ++i) {
    Slice* slice = at(i).slice;
    if (!can_be_read(*slice)) {
      unreadable.push(slice);
      continue;
    }
    at(first + frame.count()) = {slice, slice->length, slice->opcode};
    frame.add(*slice);
  }
  if (unreadable.empty()) return false;
  tail_.store(first + frame.count());
  while (!unreadable.empty()) {
    Slice* slice = unreadable.pop();
    load_.fetch_sub(slice->length, std::memory_order_relaxed);
    host_.done(slice, Code::kInvalidArgument);
  }
  return true;
}

void LaneRequests::blame_unreadable() {
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  for (uint64_t i = sent_tail_.load(std::memory_order_relaxed); i < tail; ++i) {
    if (!can_be_read(*at(i).slice)) at(i).refusal = Code::kInvalidArgument;
  }
}

void LaneRequests::answer(Sent& request, Code code) {
  request.answered = true;
  ++answered_;
  load_.fetch_sub(request.length, std::memory_order_relaxed);
  if (request.slice != nullptr) give_back(request, code);
}

void LaneRequests::give_back(Sent& request, Code code) {
  Slice* slice = request.slice;
  request.slice = nullptr;
  host_.done(slice, code);
}

void LaneRequests::advance_head() {
  uint64_t head = head_.load(std::memory_order_relaxed);
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  while (head < tail && at(head).answered) ++head;
  head_.store(head);
}

void LaneRequests::return_cancelled() {
  SliceList cancelled;
  {
    MutexLock lock(queue_mutex_);
    cancelled = take_cancelled(queue_);
    for (const Slice* slice = cancelled.first; slice != nullptr; slice = slice->next) {
      queued_.fetch_sub(1);
      load_.fetch_sub(slice->length, std::memory_order_relaxed);
    }
  }
  while (!cancelled.empty()) host_.done(cancelled.pop(), Code::kCancelled);
}

void LaneRequests::return_all(Code code) {
  SliceList returned, refused;
  {
    MutexLock lock(queue_mutex_);
    closed_ = true;
    returned = queue_;
    queue_ = {};
    queued_.store(0);
  }
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  for (uint64_t i = head_.load(std::memory_order_relaxed); i < tail; ++i) {
    Slice* slice = at(i).slice;
    at(i).slice = nullptr;
    if (slice == nullptr) continue;
    (at(i).refusal == Code::kInvalidArgument ? refused : returned).push(slice);
  }
  head_.store(tail);
  load_.store(0);
  while (!returned.empty()) host_.done(returned.pop(), code);
  while (!refused.empty()) host_.done(refused.pop(), Code::kInvalidArgument);
}

}  // namespace te::tcp
