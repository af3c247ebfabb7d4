#include "engine/recovery.h"

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"

namespace te {
namespace {

constexpr int64_t kFirstDelayMs = 5;
constexpr int64_t kLongestDelayMs = 250;
constexpr uint8_t kMaxAttempts = 8;  // of one slice, over paths that connect and break again

Status reason(const Slice& slice) {
  const Status error = slice.path->last_error();
  return error.ok() ? Status(Code::kUnavailable, "the connection was lost") : error;
}

}  // namespace

void Recovery::add(std::shared_ptr<Segment> segment, Slice* slice, Code code) {
  {
    MutexLock lock(mutex_);
    if (!stopping_) {
      Segment* key = segment.get();
      const auto [entry, fresh] = jobs_.try_emplace(key);
      entry->second.slices.push_back(slice);
      if (!fresh) return;
      entry->second.segment = std::move(segment);
      entry->second.since_ns = now_ns();
      if (pool_.run([this, key] { work(key); })) return;
      jobs_.erase(entry);
    }
  }
  owner_->end(slice, slice->cancelled() ? code : Code::kCancelled,
              Status(Code::kCancelled, "the engine ends"));
}

void Recovery::wake() {
  MutexLock lock(mutex_);
  if (jobs_.empty()) return;
  ++wakes_;
  changed_.notify_all();
}

void Recovery::stop() {
  MutexLock lock(mutex_);
  stopping_ = true;
  ++wakes_;
  changed_.notify_all();
}

// Cancelled slices, and the end of the engine, cut a pause short.
void Recovery::pause(int64_t delay_ms) {
  MutexLock lock(mutex_);
  const uint64_t wakes = wakes_;
  const int64_t until = now_ns() + delay_ms * kNsPerMs;
  while (!stopping_ && wakes_ == wakes && now_ns() < until) {
    changed_.wait_until(mutex_, to_time_point(until));
  }
}

void Recovery::work(Segment* key) {
  int64_t delay_ms = kFirstDelayMs;
  uint8_t attempts = 0;
  {
    MutexLock lock(mutex_);
    attempts = jobs_.find(key)->second.slices.front()->attempts;
  }
  // What broke again right after it was repaired is not hurried.
  if (attempts > 0) pause(std::min(kFirstDelayMs << attempts, kLongestDelayMs));
  while (round(key)) {
    pause(delay_ms);
    delay_ms = std::min(delay_ms * 2, kLongestDelayMs);
  }
}

bool Recovery::round(Segment* key) {
  std::vector<Slice*> slices;
  std::shared_ptr<Segment> segment;
  int64_t since_ns = 0;
  bool stopping = false;
  {
    MutexLock lock(mutex_);
    Job& job = jobs_.find(key)->second;
    slices.swap(job.slices);
    segment = job.segment;
    since_ns = job.since_ns;
    stopping = stopping_;
  }
  std::vector<Slice*> left;
  for (Slice* slice : slices) {
    if (slice->cancelled() || stopping) {
      owner_->end(slice, Code::kCancelled, reason(*slice));
    } else if (slice->attempts >= kMaxAttempts) {
      owner_->end(slice, Code::kUnavailable, reason(*slice));
    } else {
      left.push_back(slice);
    }
  }
  if (!left.empty()) {
    const Status status = segments_.refresh_now(segment);
    if (status.ok()) {
      left = repost_all(segment, left);
    } else if (now_ns() - since_ns >= static_cast<int64_t>(config_.retry_window_ms) * kNsPerMs) {
      const Status why = status.with_context(fmt::format("segment '{}'", segment->name));
      for (Slice* slice : left) owner_->end(slice, Code::kUnavailable, why);
      left.clear();
    }
  }
  MutexLock lock(mutex_);
  Job& job = jobs_.find(key)->second;
  job.slices.insert(job.slices.end(), left.begin(), left.end());
  if (!job.slices.empty()) return true;
  jobs_.erase(key);
  return false;
}

// Returns those that have to wait for others of their task.
std::vector<Slice*> Recovery::repost_all(const std::shared_ptr<Segment>& segment,
                                         const std::vector<Slice*>& slices) {
  const std::shared_ptr<const Target> target = segment->target();
  std::unordered_map<Task*, uint32_t> here;
  for (const Slice* slice : slices) ++here[slice->task];
  std::vector<Slice*> waiting;
  for (Slice* slice : slices) {
    Task& task = *slice->task;
    Status why;
    if (task.instance != target->descriptor.instance) {
      // Another run of the peer knows nothing of what the one before got: all of the request goes
      // there, or none.
      if (task.transferred.load() > 0) {
        why =
            error(Code::kUnavailable, "'{}' restarted in the middle of the request", segment->name);
        owner_->end(slice, Code::kUnavailable, why);
        continue;
      }
      if (here[&task] < task.slices_left.load()) {
        waiting.push_back(slice);
        continue;
      }
    }
    if (!owner_->repost(slice, segment, &why)) owner_->end(slice, why.code(), why);
  }
  return waiting;
}

}  // namespace te
