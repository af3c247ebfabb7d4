#include "transport/copy_pool.h"

#include <algorithm>
#include <thread>

#include "base/clock.h"
#include "base/counts.h"

namespace te {
namespace {

// A thread copies this much in some 20 microseconds: less is not worth waking another for.
constexpr uint64_t kWorthWaking = 128 << 10;
// What one thread takes at a time is a part of what is queued, so that all end at the same time,
// and within this.
constexpr uint64_t kMostRunBytes = 1 << 20;
constexpr uint64_t kLeastRunBytes = 64 << 10;
// Less is not distributed in parts: the last level of a page table spans 2 MiB.
constexpr uint64_t kWorthDealing = 4 << 20;
// For how long a thread looks for more to do, or for the end of what others do, before it sleeps.
constexpr int64_t kLingerNs = 50'000;

bool same_kind(const Slice& a, const Slice& b) { return a.path == b.path && a.opcode == b.opcode; }

}  // namespace

CopyPool::CopyPool(TransportHost& host, uint64_t threads, Copy copy)
    : host_(host), copy_(std::move(copy)), parts_(threads) {}

Status CopyPool::start() {
  MutexLock lock(mutex_);  // the threads look at how many they are
  while (threads_.size() < parts_.size()) {
    Result<Thread> thread = Thread::start("te-copy", [this] { work(); });
    if (!thread.ok() && threads_.empty()) return thread.status();
    if (!thread.ok()) {
      log_warning("{}; {} threads copy instead of {}", thread.status().message(), threads_.size(),
                  parts_.size());
      return {};
    }
    threads_.push_back(thread.take());
    crew_.hire();
  }
  return {};
}

// stop() does not wait for it. What it parks meanwhile is taken back here.
bool CopyPool::copy_at_once(SliceList run) {
  if (queued_bytes_.load(std::memory_order_relaxed) != 0 || stopping_.load()) return false;
  uint64_t bytes = 0;
  size_t count = 0;
  for (const Slice* slice = run.first; slice != nullptr; slice = slice->next) {
    bytes += slice->length;
    if (bytes > kLeastRunBytes || ++count > kMaxRun || !same_kind(*run.first, *slice)) return false;
  }
  copy_(run.first, CopyWay::kMemcpy);
  if (stopping_.load()) take_back(Code::kCancelled, [](const Slice&) { return true; });
  return true;
}

void CopyPool::post(SliceList slices) {
  uint64_t bytes = 0;
  size_t count = 0;
  for (const Slice* slice = slices.first; slice != nullptr; slice = slice->next) {
    bytes += slice->length;
    ++count;
  }
  MutexLock lock(mutex_);
  grow(load_bytes_, bytes);
  queued_ += count;
  add(slices, bytes);
}

void CopyPool::add(SliceList chain, uint64_t bytes) {
  grow(queued_bytes_, bytes);
  fresh_ = true;
  if (bytes >= CopyStream::kLeast) stream_.add(bytes, queued_bytes_, now_ns());
  if (bytes < kWorthDealing) return parts_.front().queue.append(chain);
  const uint64_t share = bytes / parts_.size();
  for (Part& part : parts_) {
    SliceList own{chain.first, chain.first};
    const bool last = &part == &parts_.back();
    for (uint64_t taken = chain.first->length; !last && own.last->next != nullptr;) {
      if (taken >= share) break;
      own.last = own.last->next;
      taken += own.last->length;
    }
    if (last) own.last = chain.last;
    chain.first = own.last->next;
    own.last->next = nullptr;
    part.queue.append(own);
    if (chain.first == nullptr) return;
  }
}

// Where the fewest threads are at work.
CopyPool::Part& CopyPool::next_part() {
  Part* best = nullptr;
  for (Part& part : parts_) {
    if (part.queue.empty()) continue;
    if (best == nullptr || part.takers < best->takers) best = &part;
  }
  return *best;
}

CopyPool::Run CopyPool::take(bool own) {
  Run run;
  run.own = own;
  run.part = &next_part();
  SliceList& queue = run.part->queue;
  run.first = queue.first;
  run.streaming = stream_.streaming();
  if (run.streaming) run.way = ways_.way();
  run.bytes = run.first->length;
  uint64_t most = std::clamp(queued_bytes_ / (2 * parts_.size()), kLeastRunBytes, kMostRunBytes);
  // Little at first: then who comes at the same moment looks up its pages while this one copies.
  // Both at once would wait for each other.
  if (std::exchange(fresh_, false)) most = kLeastRunBytes;
  Slice* last = run.first;
  size_t count = 1;
  for (; count < kMaxRun && last->next != nullptr; ++count) {
    const Slice& next = *last->next;
    if (!same_kind(*run.first, next) || run.bytes + next.length > most) break;
    run.bytes += next.length;
    last = last->next;
  }
  queue.first = last->next;
  if (queue.first == nullptr) queue.last = nullptr;
  last->next = nullptr;
  queued_ -= count;
  shrink(queued_bytes_, run.bytes);
  stream_.take(run.bytes);
  crew_.begin(own);
  ++run.part->takers;
  run.wake = queued_bytes_ > kWorthWaking && crew_.wake_one_unless_helped();
  return run;
}

int64_t CopyPool::carry_out(const Run& run) {
  const int64_t begin = run.streaming ? now_ns() : 0;
  run_guarded([&] { copy_(run.first, run.way); });
  return run.streaming ? now_ns() - begin : 0;
}

void CopyPool::ended(const Run& run, int64_t took_ns) {
  shrink(load_bytes_, run.bytes);
  --run.part->takers;
  crew_.end(run.own);
  if (run.bytes >= kLeastRunBytes) stream_.copied(now_ns());
  if (run.streaming) ways_.copied(run.way, run.bytes, took_ns);
  if (stopping_ && !crew_.copying()) quiet_.notify_all();
}

bool CopyPool::help() {
  Run run;
  {
    MutexLock lock(mutex_);
    if (queued_ == 0) return false;
    crew_.helper_came();
    if (!stopping_) run = take(false);
  }
  if (run.first == nullptr) {
    take_back(Code::kCancelled, [](const Slice&) { return true; });
    return true;
  }
  if (run.wake) changed_.notify_one();
  const int64_t took_ns = carry_out(run);
  MutexLock lock(mutex_);
  ended(run, took_ns);
  if (stopping_ || queued_ == 0) return true;
  crew_.expect_helper();
  if (!crew_.at_work() && crew_.wake_one()) changed_.notify_one();
  return true;
}

bool CopyPool::help_and_linger(const Path& path) {
  if (help()) return true;
  const uint64_t inflight = path.inflight_bytes.load(std::memory_order_relaxed);
  const int64_t until = now_ns() + kLingerNs;
  while (queued_bytes_.load(std::memory_order_relaxed) == 0) {
    if (path.inflight_bytes.load(std::memory_order_acquire) != inflight) return true;
    if (inflight == 0 || now_ns() >= until) return false;
    std::this_thread::yield();
  }
  return true;
}

// Before a thread of the pool sleeps.
void CopyPool::linger() {
  const int64_t until = now_ns() + kLingerNs;
  while (queued_bytes_.load(std::memory_order_relaxed) <= kWorthWaking && now_ns() < until) {
    std::this_thread::yield();
  }
}

void CopyPool::work() {
  MutexLock lock(mutex_);
  for (;;) {
    while (!stopping_ && (queued_ == 0 || crew_.enough_copying())) {
      crew_.begin_sleep();
      changed_.wait(mutex_);
      crew_.end_sleep();
    }
    if (stopping_) return;
    const Run run = take(true);
    mutex_.unlock();
    if (run.wake) changed_.notify_one();
    const int64_t took_ns = carry_out(run);
    mutex_.lock();
    ended(run, took_ns);
    if (stopping_ || queued_ > 0) continue;
    crew_.begin_linger();
    mutex_.unlock();
    linger();
    mutex_.lock();
    crew_.end_linger();
  }
}

void CopyPool::park(Slice* run) {
  SliceList list;
  MutexLock lock(mutex_);
  for (Slice* slice = run; slice != nullptr;) {
    grow(load_bytes_, slice->length);
    list.push(std::exchange(slice, slice->next));
  }
  parked_.append(list);
}

void CopyPool::resume(const Path& path) {
  MutexLock lock(mutex_);
  SliceList rest;
  while (!parked_.empty()) {
    Slice* slice = parked_.pop();
    if (slice->path == &path) {
      parts_.front().queue.push(slice);
      ++queued_;
      grow(queued_bytes_, slice->length);
    } else {
      rest.push(slice);
    }
  }
  parked_ = rest;
  if (queued_ > 0 && crew_.wake_one()) changed_.notify_one();
}

template <typename Wanted>
void CopyPool::take_back(Code code, Wanted&& wanted) {
  SliceList taken;
  const auto sift = [&](SliceList& list) {
    SliceList rest;
    while (!list.empty()) {
      Slice* slice = list.pop();
      (wanted(*slice) ? taken : rest).push(slice);
    }
    list = rest;
  };
  {
    MutexLock lock(mutex_);
    for (Part& part : parts_) sift(part.queue);
    for (const Slice* slice = taken.first; slice != nullptr; slice = slice->next) {
      --queued_;
      shrink(queued_bytes_, slice->length);
    }
    sift(parked_);
    for (const Slice* slice = taken.first; slice != nullptr; slice = slice->next) {
      shrink(load_bytes_, slice->length);
    }
  }
  for (Slice* slice = taken.first; slice != nullptr;) {
    Slice* next = slice->next;
    host_.done(slice, code);
    slice = next;
  }
}

void CopyPool::sweep() {
  take_back(Code::kCancelled, [](const Slice& slice) { return slice.cancelled(); });
}

void CopyPool::reset(const Path& path) {
  take_back(Code::kUnavailable, [&path](const Slice& slice) { return slice.path == &path; });
}

void CopyPool::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (Thread& thread : threads_) thread.join();
  {
    MutexLock lock(mutex_);
    while (crew_.copying()) quiet_.wait(mutex_);
  }
  take_back(Code::kCancelled, [](const Slice&) { return true; });  // what was parked meanwhile
}

}  // namespace te
