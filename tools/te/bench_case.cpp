#include "bench_case.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <latch>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "bench_worker.h"
#include "stop_signals.h"

namespace te::tool {
namespace {

constexpr int kProgressMs = 200;

double cpu_seconds_of_process() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Becomes readable when the last worker has measured.
class DoneEvent {
 public:
  explicit DoneEvent(uint64_t workers) : remaining_(workers), fd_(eventfd(0, EFD_CLOEXEC)) {
    if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  }
  ~DoneEvent() { close(fd_); }
  DoneEvent(const DoneEvent&) = delete;
  DoneEvent& operator=(const DoneEvent&) = delete;

  void count_down(uint64_t count) {
    if (remaining_.fetch_sub(count) == count) eventfd_write(fd_, 1);
  }
  // True when done, false after `timeout_ms` or a signal.
  bool wait(int timeout_ms) const {
    pollfd entry{fd_, POLLIN, 0};
    return poll(&entry, 1, timeout_ms) == 1;
  }

 private:
  std::atomic<uint64_t> remaining_;
  const int fd_;
};

// The workers' threads and the points where they meet: all are ready, all have measured, and the
// caller has taken the time. Only then may verify() put its own load on the machine.
class Crew {
 public:
  explicit Crew(const CaseSpec& spec)
      : spec_(spec),
        ready_(static_cast<std::ptrdiff_t>(spec.threads) + 1),
        taken_(1),
        measured_(spec.threads) {}

  void start(Engine& engine, const Region& region) {
    const uint64_t part = part_bytes(spec_, region.length);
    for (uint64_t i = 0; i < spec_.threads; ++i) {
      const Region own{region.memory, region.local + i * part, region.segment,
                       region.remote_offset + i * part, part};
      workers_.emplace_back(engine, spec_, own, failed_);
    }
    threads_.reserve(spec_.threads);
    try {
      for (Worker& worker : workers_) threads_.emplace_back([this, &worker] { work(worker); });
    } catch (const std::system_error& error) {
      start_error_ =
          std::string("cannot start as many threads (") + error.what() + "): give fewer --threads";
      failed_ = true;
      const uint64_t missing = spec_.threads - threads_.size();
      ready_.count_down(static_cast<std::ptrdiff_t>(missing));
      measured_.count_down(missing);
    }
  }

  CaseResult finish(const std::function<void(const Progress&)>& on_progress) {
    ready_.arrive_and_wait();
    const double cpu_begin = cpu_seconds_of_process();
    while (!measured_.wait(kProgressMs)) on_progress(progress());
    CaseResult result;
    result.spec = spec_;
    result.cpu_seconds = cpu_seconds_of_process() - cpu_begin;
    taken_.count_down();
    for (std::thread& thread : threads_) thread.join();
    collect(result);
    return result;
  }

 private:
  void work(Worker& worker) {
    worker.prepare();
    ready_.arrive_and_wait();
    worker.measure(start_time() + std::chrono::milliseconds(spec_.duration_ms));
    measured_.count_down(1);
    taken_.wait();
    worker.verify();
  }

  // The same for all: the time at which the first one asked.
  Worker::Clock::time_point start_time() {
    std::call_once(started_, [this] { begin_ = Worker::Clock::now(); });
    return begin_;
  }

  Progress progress() {
    Progress now;
    now.seconds = std::chrono::duration<double>(Worker::Clock::now() - start_time()).count();
    for (const Worker& worker : workers_) now.bytes += worker.bytes();
    return now;
  }

  void collect(CaseResult& result) {
    Worker::Clock::time_point end = start_time();
    for (const Worker& worker : workers_) {
      end = std::max(end, worker.end());
      result.bytes += worker.bytes();
      result.requests += worker.requests();
      result.errors += worker.errors();
      result.verified_bytes += worker.verified_bytes();
      result.latency_ns.merge(worker.latency_ns());
      if (result.first_error.empty()) result.first_error = worker.first_error();
    }
    if (!start_error_.empty()) {
      ++result.errors;
      result.first_error = start_error_;
    }
    result.seconds = std::chrono::duration<double>(end - start_time()).count();
    result.interrupted = stop_signal() != 0;
  }

  const CaseSpec spec_;
  std::latch ready_;
  std::latch taken_;
  DoneEvent measured_;
  std::atomic<bool> failed_{false};
  std::once_flag started_;
  Worker::Clock::time_point begin_{};
  std::deque<Worker> workers_;
  std::vector<std::thread> threads_;
  std::string start_error_;
};

}  // namespace

uint64_t part_bytes(const CaseSpec& spec, uint64_t length) {
  const uint64_t share = length / spec.threads;
  const uint64_t whole_lines = share - share % 64;  // so that no two threads share a cache line
  return whole_lines >= spec.block_size ? whole_lines : share;
}

CaseResult run_case(Engine& engine, const CaseSpec& spec, const Region& region,
                    const std::function<void(const Progress&)>& on_progress) {
  Crew crew(spec);
  crew.start(engine, region);
  return crew.finish(on_progress);
}

}  // namespace te::tool
