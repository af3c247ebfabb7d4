#include "base/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/clock.h"
#include "base/log.h"

namespace te {

Result<std::unique_ptr<EventLoop>> EventLoop::create(std::string thread_name) {
  std::unique_ptr<EventLoop> loop(new EventLoop(std::move(thread_name)));
  loop->epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  loop->wake_ = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!loop->epoll_.valid() || !loop->wake_.valid()) {
    return error(Code::kResource, "cannot make an event loop: {}", errno_text(errno));
  }
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.ptr = nullptr;
  ::epoll_ctl(loop->epoll_.get(), EPOLL_CTL_ADD, loop->wake_.get(), &event);
  return loop;
}

EventLoop::~EventLoop() { stop(); }

Status EventLoop::start() {
  Result<Thread> thread = Thread::start(name_, [this] { loop(); });
  if (!thread.ok()) return thread.status();
  thread_ = thread.take();
  return {};
}

void EventLoop::stop() {
  {
    MutexLock lock(mutex_);
    if (stopped_) return;
    stopped_ = true;
  }
  stopping_.store(true);
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
  thread_.join();
  run_tasks();
  retired_.clear();
}

bool EventLoop::run(std::function<void()> task) {
  {
    MutexLock lock(mutex_);
    if (stopped_) return false;
    tasks_.push_back(std::move(task));
  }
  wake();
  return true;
}

bool EventLoop::run(LastTask& task) {
  {
    MutexLock lock(mutex_);
    if (stopped_) return false;
    task.next_ = std::exchange(last_tasks_, &task);
  }
  wake();
  return true;
}

void EventLoop::wake() {
  if (woken_.exchange(true)) return;
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

Status EventLoop::add(int fd, uint32_t events, Handler* handler) {
  epoll_event event{};
  event.events = events | EPOLLET;
  event.data.ptr = handler;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return error(Code::kResource, "cannot watch a descriptor: {}", errno_text(errno));
  }
  handler->removed_ = false;
  return {};
}

void EventLoop::change(int fd, uint32_t events, Handler* handler) {
  epoll_event event{};
  event.events = events | EPOLLET;
  event.data.ptr = handler;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void EventLoop::remove(int fd, Handler* handler) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  forget(handler);
}

void EventLoop::retire(std::unique_ptr<Handler> handler) {
  forget(handler.get());
  retired_.push_back(std::move(handler));
}

void EventLoop::again(Handler* handler) {
  if (handler->again_) return;
  handler->again_ = true;
  again_.push_back(handler);
}

void EventLoop::run_after(int64_t delay_ms, std::function<void()> task) {
  run_at(deadline_after_ms(now_ns(), delay_ms), std::move(task));
}

void EventLoop::run_at(int64_t due_ns, std::function<void()> task) {
  timers_.push({due_ns, next_timer_++, std::move(task)});
}

void EventLoop::run_tasks() {
  std::vector<std::function<void()>> tasks;
  LastTask* last = nullptr;
  {
    MutexLock lock(mutex_);
    tasks.swap(tasks_);
    std::swap(last, last_tasks_);
  }
  for (const std::function<void()>& task : tasks) run_guarded(task);
  while (last != nullptr) {
    LastTask& task = *std::exchange(last, last->next_);
    run_guarded([&task] { task.run(); });
  }
}

void EventLoop::run_timers() {
  while (!timers_.empty() && timers_.top().at_ns <= now_ns()) {
    const std::function<void()> task = timers_.top().task;
    timers_.pop();
    run_guarded(task);
  }
}

int EventLoop::sleep_ms() const {
  if (!again_.empty()) return 0;
  if (timers_.empty()) return -1;
  const int64_t left = timers_.top().at_ns - now_ns();
  return left <= 0 ? 0 : static_cast<int>(std::min<int64_t>(left / kNsPerMs + 1, 3'600'000));
}

// Polls first where that pays, giving way to whoever else wants the core.
int EventLoop::wait(epoll_event* events, int capacity) {
  const int64_t begin_ns = now_ns();
  const bool worth = latest_ != nullptr && latest_->worth_polling();
  const int64_t until_ns = worth ? begin_ns + spin_.budget_ns() : 0;
  int count = ::epoll_wait(epoll_.get(), events, capacity, 0);
  while (count == 0 && now_ns() < until_ns && !stopping_.load(std::memory_order_relaxed)) {
    if (poll_latest(until_ns)) {
      spin_.came_after(now_ns() - begin_ns);
      return 0;
    }
    std::this_thread::yield();
    count = ::epoll_wait(epoll_.get(), events, capacity, 0);
  }
  if (count == 0) count = ::epoll_wait(epoll_.get(), events, capacity, sleep_ms());
  if (count > 0) spin_.came_after(now_ns() - begin_ns);
  return count;
}

// A few looks at the handler that most likely has something.
bool EventLoop::poll_latest(int64_t until_ns) {
  for (int polls = 0; polls < kPollsPerYield && latest_ != nullptr; ++polls) {
    if (latest_->poll()) return true;
    if (now_ns() >= until_ns) break;
  }
  return false;
}

void EventLoop::forget(Handler* handler) {
  handler->removed_ = true;
  if (handler->again_) std::erase(again_, handler);
  if (latest_ == handler) latest_ = nullptr;
}

// An event that was lost with what its handler threw would not be told again.
void EventLoop::call(Handler* handler, uint32_t events) {
  if (run_guarded([&] { handler->on_events(events); }) || handler->removed_) return;
  std::this_thread::sleep_for(std::chrono::milliseconds(1));  // memory may come back
  again(handler);
}

void EventLoop::turn() {
  epoll_event events[64];
  const int count = again_.empty() ? wait(events, 64) : ::epoll_wait(epoll_.get(), events, 64, 0);
  bool wake = false;
  std::vector<Handler*> repeat;
  repeat.swap(again_);
  for (Handler* handler : repeat) handler->again_ = false;
  for (int i = 0; i < count; ++i) {
    auto* handler = static_cast<Handler*>(events[i].data.ptr);
    if (handler == nullptr) {
      wake = true;
    } else if (!handler->removed_) {
      latest_ = handler;
      call(handler, events[i].events);
    }
  }
  for (Handler* handler : repeat) {
    if (!handler->removed_) call(handler, 0);
  }
  if (wake) {
    uint64_t ignored;
    (void)!::read(wake_.get(), &ignored, sizeof ignored);
    woken_.store(false);
    run_tasks();
  }
  run_timers();
  retired_.clear();
}

void EventLoop::loop() {
  looping_.store(std::this_thread::get_id());
  while (!stopping_.load(std::memory_order_relaxed)) turn();
}

}  // namespace te
