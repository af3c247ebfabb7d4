#include "engine/recovery.h"

#include <algorithm>

#include "base/log.h"
#include "engine/retry_delay.h"

namespace te {
namespace {

constexpr int64_t kLongestPollMs = 50;  // of a peer that is there, for what it may offer soon
constexpr uint8_t kMaxAttempts = 8;     // of one slice, over paths that connect and break again
constexpr size_t kMostReposted = 1024;  // tasks kept, but for those that still matter

Status reason(const Slice& slice) {
  const Status error = slice.path == nullptr ? Status() : slice.path->last_error();
  return error.ok() ? Status(Code::kUnavailable, "the connection was lost") : error;
}

}  // namespace

Recovery::Job* Recovery::find(Segment* key, uint64_t number) {
  const auto found = jobs_.find(key);
  return found == jobs_.end() || found->second.number != number ? nullptr : &found->second;
}

void Recovery::add(std::shared_ptr<Segment> segment, Slice* slice, Code code) {
  Segment* key = segment.get();
  uint64_t number = 0;
  bool stopping = false;
  {
    MutexLock lock(mutex_);
    stopping = stopping_;
    if (!stopping) {
      const auto [entry, fresh] = jobs_.try_emplace(key);
      Job& job = entry->second;
      job.slices.push_back(slice);
      if (!fresh) return;
      job.segment = std::move(segment);
      job.number = number = ++jobs_made_;
      job.since_ns = host_.now_ns();
      job.delay_ms = kFirstRetryMs;
    }
  }
  if (stopping) {
    return end(slice, slice->cancelled() ? code : Code::kCancelled,
               Status(Code::kCancelled, "the engine ends"));
  }
  // What broke again right after it was repaired is not hurried.
  const uint8_t attempts = std::min<uint8_t>(slice->attempts, kMaxAttempts);
  const int64_t delay_ms = attempts == 0 ? 0 : std::min(kFirstRetryMs << attempts, kLongestRetryMs);
  ask_after(delay_ms, key, number);
  (void)host_.run_after(static_cast<int64_t>(config_.retry_window_ms),
                        [this, key, number] { window_over(key, number); });
}

// Where the engine ends nothing is asked any more, and stop() takes what is here.
void Recovery::ask_after(int64_t delay_ms, Segment* key, uint64_t number) {
  (void)host_.run_after(delay_ms, [this, key, number] { ask(key, number); });
}

void Recovery::ask(Segment* key, uint64_t number) {
  std::shared_ptr<Segment> segment;
  {
    MutexLock lock(mutex_);
    Job* job = find(key, number);
    if (job == nullptr) return;
    if (job->slices.empty()) {
      jobs_.erase(key);  // all were cancelled
      return;
    }
    segment = job->segment;
    job->asking.swap(job->slices);
  }
  host_.refresh(segment,
                [this, key, number](const Status& status) { refreshed(key, number, status); });
}

void Recovery::refreshed(Segment* key, uint64_t number, const Status& status) {
  std::vector<Slice*> slices;
  std::shared_ptr<Segment> segment;
  bool too_late = false;
  {
    MutexLock lock(mutex_);
    Job* job = find(key, number);
    if (job == nullptr) return;
    slices.swap(job->asking);
    segment = job->segment;
    job->asked = true;
    job->last = status;
    const int64_t now = host_.now_ns();
    too_late = now - job->since_ns >= window_ns();
    if (status.ok()) job->since_ns = now;
  }
  const std::vector<Slice*> left = sort_out(segment, status, too_late, slices);
  int64_t delay_ms = 0;
  bool over = false;
  {
    MutexLock lock(mutex_);
    Job* job = find(key, number);
    over = job == nullptr;
    if (!over) {
      // What broke again right after it was repaired is not hurried.
      const bool hurries =
          status.ok() && std::any_of(job->slices.begin(), job->slices.end(),
                                     [](const Slice* slice) { return slice->attempts == 0; });
      job->slices.insert(job->slices.end(), left.begin(), left.end());
      delay_ms = hurries ? 0 : job->delay_ms;
      job->delay_ms = std::min(job->delay_ms * 2, status.ok() ? kLongestPollMs : kLongestRetryMs);
      if (job->slices.empty()) {
        jobs_.erase(key);
        return;
      }
    }
  }
  if (over) return end_all(left, Code::kCancelled, Status(Code::kCancelled, "the engine ends"));
  ask_after(delay_ms, key, number);
}

std::vector<Slice*> Recovery::sort_out(const std::shared_ptr<Segment>& segment,
                                       const Status& status, bool too_late,
                                       const std::vector<Slice*>& slices) {
  std::vector<Slice*> left;
  for (Slice* slice : slices) {
    if (slice->cancelled()) {
      end(slice, Code::kCancelled, status.ok() ? reason(*slice) : status);
    } else if (slice->attempts >= kMaxAttempts || reposted_in_vain(*slice, status.ok())) {
      end(slice, Code::kUnavailable, reason(*slice));
    } else {
      left.push_back(slice);
    }
  }
  if (status.ok()) return repost_all(segment, left);
  if (!too_late) return left;
  end_all(left, Code::kUnavailable,
          status.with_context(fmt::format("segment '{}'", segment->name)));
  return {};
}

std::vector<Slice*> Recovery::repost_all(const std::shared_ptr<Segment>& segment,
                                         const std::vector<Slice*>& slices) {
  const std::shared_ptr<const Target> target = segment->target();
  std::unordered_map<Task*, uint32_t> here;
  for (const Slice* slice : slices) ++here[slice->task];
  // A new run registers its memory bit by bit.
  const int64_t restarted_ns = host_.restarted_ns(*segment);
  const bool young = restarted_ns != 0 && host_.now_ns() - restarted_ns < window_ns();
  std::vector<Slice*> waiting;
  for (Slice* slice : slices) {
    const Task& task = *slice->task;
    Status why;
    if (target && task.instance != target->descriptor.instance) {
      // Another run of the peer knows nothing of what the one before got: all of the request goes
      // there, or none.
      if (task.transferred.load() > 0) {
        why =
            error(Code::kUnavailable, "'{}' restarted in the middle of the request", segment->name);
        end(slice, Code::kUnavailable, why);
        continue;
      }
      if (here[slice->task] < task.slices_left.load()) {
        waiting.push_back(slice);
        continue;
      }
    }
    note_repost(*slice);
    const SliceOwner::Outcome outcome = owner_->repost(slice, segment, &why);
    if (outcome == SliceOwner::Outcome::kPosted) continue;
    if (outcome == SliceOwner::Outcome::kNotOffered && young) {
      waiting.push_back(slice);
    } else {
      end(slice, why.code(), why);
    }
  }
  return waiting;
}

void Recovery::note_repost(const Slice& slice) {
  if (slice.attempts > 0) return;
  MutexLock lock(mutex_);
  const int64_t now = host_.now_ns();
  if (reposted_.size() >= kMostReposted) {
    std::erase_if(reposted_, [this, now](const auto& each) {
      return now - each.second.since_ns >= window_ns();
    });
  }
  reposted_[slice.task] = {now, slice.task->transferred.load()};
}

bool Recovery::reposted_in_vain(const Slice& slice, bool answers) {
  if (slice.attempts == 0) return false;
  MutexLock lock(mutex_);
  const auto found = reposted_.find(slice.task);
  if (found == reposted_.end()) return false;
  const uint64_t transferred = slice.task->transferred.load();
  if (!answers || found->second.transferred != transferred) {
    found->second = {host_.now_ns(), transferred};
    return false;
  }
  return host_.now_ns() - found->second.since_ns >= window_ns();
}

void Recovery::end(Slice* slice, Code code, const Status& why) {
  {
    MutexLock lock(mutex_);
    reposted_.erase(slice->task);
  }
  owner_->end(slice, code, why);
}

// A peer that is being asked for the second time or later is not waited for any longer.
void Recovery::window_over(Segment* key, uint64_t number) {
  std::vector<Slice*> slices;
  Status why;
  int64_t left_ns = 0;
  {
    MutexLock lock(mutex_);
    Job* job = find(key, number);
    if (job == nullptr) return;
    left_ns = job->since_ns + window_ns() - host_.now_ns();
    if (left_ns <= 0 && job->asked && !job->last.ok()) {
      slices = job->take_all();
      why = job->last.with_context(fmt::format("segment '{}'", job->segment->name));
    }
  }
  end_all(slices, Code::kUnavailable, why);
  if (left_ns <= 0) return;
  (void)host_.run_after(left_ns / kNsPerMs + 1, [this, key, number] { window_over(key, number); });
}

void Recovery::end_all(const std::vector<Slice*>& slices, Code code, const Status& why) {
  for (Slice* slice : slices) end(slice, code, why);
}

void Recovery::sweep() {
  std::vector<std::pair<Slice*, Status>> ended;
  {
    MutexLock lock(mutex_);
    for (auto& [key, job] : jobs_) {
      for (std::vector<Slice*>* slices : {&job.slices, &job.asking}) {
        std::erase_if(*slices, [&ended, &last = job.last](Slice* slice) {
          if (!slice->cancelled()) return false;
          ended.emplace_back(slice, last.ok() ? reason(*slice) : last);
          return true;
        });
      }
    }
  }
  for (const auto& [slice, why] : ended) end(slice, Code::kCancelled, why);
}

void Recovery::stop() {
  std::vector<Slice*> slices;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    for (auto& [key, job] : jobs_) {
      const std::vector<Slice*> of_job = job.take_all();
      slices.insert(slices.end(), of_job.begin(), of_job.end());
    }
    jobs_.clear();
  }
  end_all(slices, Code::kCancelled, Status(Code::kCancelled, "the engine ends"));
}

}  // namespace te
