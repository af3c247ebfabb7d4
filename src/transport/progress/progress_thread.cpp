#include "transport/progress/progress_thread.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "base/spin.h"

namespace te {
namespace {

constexpr int kRoundsPerEvents = 64;  // while polling

}  // namespace

ProgressThread::ProgressThread(ProgressWork& work, int64_t spin_ns)
    : work_(work), spin_ns_(spin_ns), wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

Status ProgressThread::start(const char* name) {
  if (!wake_.valid()) {
    return error(Code::kResource, "cannot make an event descriptor: {}", errno_text(errno));
  }
  Result<Thread> thread = Thread::start(name, [this] { run(); });
  if (!thread.ok()) return thread.status();
  thread_ = thread.take();
  return {};
}

void ProgressThread::wake() {
  if (!asleep_.load()) return;
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

void ProgressThread::stop() {
  if (stopping_.exchange(true)) return;
  wake();
  thread_.join();
}

bool ProgressThread::sleep(Look& look) {
  look.listen(wake_.get());
  asleep_.store(true);
  const bool wanted = stopping_.load() || work_.wanted();
  const bool forever = look.next_ns == kNever && !wanted;
  const int64_t left_ns = wanted || forever ? 0 : std::max<int64_t>(look.next_ns - now_ns(), 0);
  const timespec left{left_ns / 1'000'000'000, left_ns % 1'000'000'000};
  ::ppoll(look.descriptors.data(), look.descriptors.size(), forever ? nullptr : &left, nullptr);
  asleep_.store(false);
  if (look.descriptors.back().revents != 0) {
    uint64_t count = 0;
    (void)!::read(wake_.get(), &count, sizeof count);
  }
  look.descriptors.pop_back();
  const bool readable = std::any_of(look.descriptors.begin(), look.descriptors.end(),
                                    [](const pollfd& each) { return each.revents != 0; });
  return work_.take_events() || readable;
}

void ProgressThread::run() {
  SpinPolicy spin(spin_ns_);
  int64_t idle_since = now_ns();
  Look look;
  for (int rounds = 1; !stopping_.load(); ++rounds) {
    look.news = look.left_to_caller = false;
    look.next_ns = kNever;
    look.descriptors.clear();
    bool polls = now_ns() - idle_since < spin.budget_ns();
    work_.look(!polls, look);
    if (!look.news && polls && look.left_to_caller) {
      polls = false;
      work_.look(true, look);
    }
    if (!look.news && !polls) {
      look.news = sleep(look);
    } else if (!look.news) {
      if (rounds % kPollsPerYield == 0) std::this_thread::yield();
      if (rounds % kRoundsPerEvents == 0) look.news = work_.take_events();
    }
    if (!look.news) continue;
    const int64_t now = now_ns();
    spin.came_after(now - idle_since);
    idle_since = now;
  }
}

}  // namespace te
