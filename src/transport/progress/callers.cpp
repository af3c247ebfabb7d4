#include "transport/progress/callers.h"

#include <algorithm>
#include <thread>

namespace te {

bool CallerSleep::sleep(Waker& waker, int64_t left_ns) {
  entries_[0] = {waker.descriptor(), POLLIN, 0};
  left_ns = std::clamp<int64_t>(left_ns, 0, limit_ns_);
  const timespec left{left_ns / 1'000'000'000, left_ns % 1'000'000'000};
  ::ppoll(entries_.data(), 1 + count_, &left, nullptr);
  return (entries_[0].revents & POLLIN) != 0;
}

bool CallerProgress::run(CallerWork& work, int64_t until_ns, Waker& waker) {
  if (until_ns == 0) return work.work(polls_at_once_);
  if (work.work(1)) return true;
  if (!work.pending()) return false;
  const int64_t begin_ns = clock_();
  const int64_t spin_until_ns = std::min(begin_ns + spin_.budget_ns(), until_ns);
  bool news = false;
  for (int64_t now = begin_ns; !news && now < spin_until_ns && work.worth_polling();
       now = clock_()) {
    news = work.work(kPollsPerYield);
    if (!news) std::this_thread::yield();
  }
  news = news || sleep(work, until_ns, waker);
  spin_.came_after(news ? clock_() - begin_ns : kNever);
  return news;
}

bool CallerProgress::sleep(CallerWork& work, int64_t until_ns, Waker& waker) {
  CallerSleep sleep;
  sleeper_.store(&waker);
  const CallerWork::BeforeSleep before = work.before_sleep(sleep);
  const bool sleeps = before == CallerWork::BeforeSleep::kSleep;
  const bool woken = sleeps && sleep.sleep(waker, until_ns - clock_());
  sleeper_.store(nullptr);
  while (wakes_.load() != 0) std::this_thread::yield();
  if (before == CallerWork::BeforeSleep::kNoWay) return false;
  if (woken) waker.clear();
  if (sleeps) work.after_sleep(sleep);
  (void)work.work(1);
  return true;
}

void CallerProgress::wake() {
  wakes_.fetch_add(1);
  if (Waker* sleeper = sleeper_.load(); sleeper != nullptr) sleeper->wake();
  wakes_.fetch_sub(1);
}

}  // namespace te
