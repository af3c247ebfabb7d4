#include "engine/finder.h"

#include <map>
#include <utility>

#include "base/clock.h"

namespace te {

// Outlives the finder where a look-up does.
struct Finder::Waiting {
  explicit Waiting(EventLoop& at) : loop(at) {}

  // Its number; 0, and nothing taken: it is stopped.
  uint64_t take(Found& found) TE_EXCLUDES(mutex) {
    MutexLock lock(mutex);
    if (stopped) return 0;
    founds.emplace(++next, std::move(found));
    return next;
  }
  void answer(uint64_t number, Result<Place> place) TE_EXCLUDES(mutex) {
    MutexLock lock(mutex);
    auto found = founds.extract(number);
    if (found.empty()) return;  // stopped; the loop may be gone
    loop.run([found = std::move(found.mapped()), place = std::move(place)] { found(place); });
  }

  Mutex mutex;
  EventLoop& loop;
  std::map<uint64_t, Found> founds TE_GUARDED_BY(mutex);
  uint64_t next TE_GUARDED_BY(mutex) = 0;
  bool stopped TE_GUARDED_BY(mutex) = false;
};

Finder::Finder(EventLoop& loop, std::shared_ptr<Directory> directory)
    : loop_(loop), directory_(std::move(directory)), waiting_(std::make_shared<Waiting>(loop)) {}

Result<Finder::Place> Finder::find_now(Directory& directory, const std::string& name) {
  Result<Locator> locator = directory.resolve(name);
  if (!locator.ok()) return locator.status();
  Result<std::vector<SocketAddress>> addresses = resolve_host(locator->host, locator->port);
  if (!addresses.ok()) return addresses.status();
  return Place{locator.take(), addresses.take()};
}

void Finder::find(const std::string& name, bool slow, Found found) {
  if (!directory_->asks_a_server()) {
    const Result<Locator> locator = directory_->resolve(name);
    if (!locator.ok()) return found(locator.status());
    if (is_numeric_address(locator->host)) return found(find_now(*directory_, name));
  }
  const uint64_t number = waiting_->take(found);
  const Status ends(Code::kCancelled, "the engine ends");
  if (number == 0) return found(ends);
  TaskPool& pool = slow ? slow_ : usual_;
  const auto begun = std::make_shared<std::atomic<bool>>(false);
  const bool taken =
      pool.run([waiting = waiting_, directory = directory_, name, number, begun]() mutable {
        begun->store(true);
        Result<Place> place = find_now(*directory, name);
        directory = nullptr;
        waiting->answer(number, std::move(place));
      });
  if (!taken) return waiting_->answer(number, ends);
  loop_.run_after(kPatienceMs, [waiting = waiting_, &pool, begun] {
    if (begun->load()) return;
    MutexLock lock(waiting->mutex);
    if (!waiting->stopped) pool.grow(kMost);  // the pool is there as long
  });
}

void Finder::stop() {
  std::map<uint64_t, Found> founds;
  {
    MutexLock lock(waiting_->mutex);
    waiting_->stopped = true;
    founds.swap(waiting_->founds);
  }
  for (auto& [number, found] : founds) {
    loop_.run([found = std::move(found)] { found(Status(Code::kCancelled, "the engine ends")); });
  }
  const int64_t until_ns = now_ns() + kStopMs * kNsPerMs;
  usual_.abandon(until_ns);
  slow_.abandon(until_ns);
}

}  // namespace te
