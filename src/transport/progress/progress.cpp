#include "transport/progress/progress.h"

#include <algorithm>

#include "base/clock.h"

namespace te {
namespace {

constexpr int kPollsAtOnce = 32;  // of a caller that polls by itself: a few microseconds at most
constexpr int64_t kRetryNs = 1 * kNsPerMs;  // between attempts of what waits for room

}  // namespace

Progress::Progress(TransportHost& host, ProgressDriver& driver, int64_t spin_ns,
                   std::function<void()> wake)
    : host_(host), driver_(driver), wake_(std::move(wake)), callers_(spin_ns, kPollsAtOnce) {}

void Progress::call_thread() {
  wanted_.store(true);
  wake_();
}

// Without the queue, where the lock is free and nothing came before.
bool Progress::submit_at_once(SliceList& slices) {
  if (queue_.waiting() || queue_.closed() || !lock.try_lock()) return false;
  if (queue_.closed()) {
    lock.unlock();
    return false;
  }
  driver_.submitted(slices);
  const bool call = driver_.needs_thread() || completed_any();
  lock.unlock();
  if (call) call_thread();
  drain_if_free();  // for those that found the lock held
  return true;
}

void Progress::submit(SliceList slices) {
  if (submit_at_once(slices)) return;
  if (!queue_.add(slices)) {
    // Nobody is left to return them later.
    while (!slices.empty()) host_.done(slices.pop(), Code::kCancelled);
    return;
  }
  drain_if_free();
}

bool Progress::command(std::function<void()> command) {
  if (!queue_.add(std::move(command))) return false;
  call_thread();
  return true;
}

void Progress::drain() {
  const SliceList slices = queue_.take();
  if (!slices.empty()) driver_.submitted(slices);
}

void Progress::run_commands() {
  queue_.take(running_);
  for (const SubmissionQueue::Command& command : running_) command();
}

void Progress::drain_if_free() {
  bool call = false;
  while (queue_.waiting()) {
    if (!lock.try_lock()) break;  // the holder looks again
    drain();
    call = call || driver_.needs_thread() || completed_any();
    lock.unlock();
  }
  if (call) call_thread();
}

void Progress::advance_later(std::shared_ptr<Backlog> backlog) {
  std::vector<std::shared_ptr<Backlog>>& all = completed_.backlogs;
  if (std::find(all.begin(), all.end(), backlog) == all.end()) all.push_back(std::move(backlog));
}

// What waits for the places that became free goes first: others wait for no thread here.
void Progress::deliver(Completed& completed) {
  for (const std::shared_ptr<Backlog>& backlog : completed.backlogs) backlog->advance();
  for (const auto& [slice, code] : completed.slices) host_.done(slice, code);
  completed.backlogs.clear();
  completed.slices.clear();
}

void Progress::look(bool before_sleep, Look& look) {
  const int64_t now = now_ns();
  if (!wanted_.load() && callers_.leave_to_caller(lock, attended_ns_, now)) {
    look.left_to_caller = true;
    look.come_at(now + CallerProgress::kLeaseNs);
    drain_if_free();  // the lock was tried
    return;
  }
  attended_ns_ = now;
  {
    MutexLock held(lock);
    wanted_.store(false);
    drain();
    run_commands();
    const bool expected = callers_.expected(now);
    bool news = false;
    if (!expected) news = driver_.poll();
    driver_.advance();
    look.come_at(driver_.watch(now));
    if (expected) {
      look.left_to_caller = true;
      look.come_at(now + CallerProgress::kLeaseNs);
    } else if (before_sleep && !news) {
      const Arming arming = driver_.arm(false);
      news = arming.news;
      if (arming.descriptor >= 0) look.listen(arming.descriptor);
    }
    look.news = look.news || news || completed_any();
    by_thread_.swap(completed_);
  }
  running_.clear();
  deliver(by_thread_);
  drain_if_free();
}

void Progress::close() {
  std::vector<SubmissionQueue::Command> dropped;  // end without the lock
  MutexLock held(lock);
  dropped = queue_.close();
}

void Progress::run(const std::function<void()>& work) {
  Completed completed;
  {
    MutexLock held(lock);
    drain();
    work();
    completed.swap(completed_);
  }
  deliver(completed);
}

bool Progress::work(int polls) {
  {
    MutexLock held(lock);
    if (queue_.waiting()) drain();
    while (!driver_.poll() && --polls > 0 && outstanding.load() > 0 && !queue_.waiting()) {
    }
    driver_.advance();
    by_caller_.swap(completed_);
  }
  const bool useful = !by_caller_.slices.empty() || !by_caller_.backlogs.empty();
  deliver(by_caller_);
  drain_if_free();
  return useful;
}

bool Progress::run_by_caller(int64_t until_ns, Waker& waker) {
  if (!callers_.begin()) return false;
  const bool useful = callers_.run(*this, until_ns, waker);
  // A caller that polls by itself comes again.
  const bool polls = until_ns == 0 && pending();
  if (callers_.end(useful || polls)) call_thread();
  return useful;
}

CallerWork::BeforeSleep Progress::before_sleep(CallerSleep& sleep) {
  Arming arming;
  {
    MutexLock held(lock);
    if (queue_.waiting()) return BeforeSleep::kLookAgain;
    arming = driver_.arm(true);
  }
  drain_if_free();
  if (arming.news) return BeforeSleep::kLookAgain;
  if (arming.descriptor >= 0) {
    sleep.listen(arming.descriptor, POLLIN);
  } else if (arming.nap_ns > 0) {
    sleep.at_most(arming.nap_ns);
  } else {
    return BeforeSleep::kNoWay;
  }
  if (blocked.load()) sleep.at_most(kRetryNs);
  return BeforeSleep::kSleep;
}

}  // namespace te
