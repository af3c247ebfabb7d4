// The initiator of a soak: writers that submit what is planned, from start to pause. Commands, each
// answered by a "done" event:
//   start | pause | resume    pause returns when nothing is under way
//   recover MS                a WRITE to every target must complete within that time
//   sweep                     while paused: every range is checked
//   settle                    the bytes of processes that died have had their time to arrive
//   truncate | extend | readonly | writable    of local memory that requests use
//   quit
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <iostream>
#include <mutex>
#include <sstream>
#include <thread>

#include "soak/report.h"
#include "soak/writer.h"

namespace te::soak {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kTryMs = 2'000;  // the timeout of one WRITE of a recovery check

class Initiator {
 public:
  Initiator(const Settings& settings, World world)
      : settings_(settings), shared_(settings, std::move(world)) {}

  Status start() {
    auto engine = make_engine(settings_);
    if (!engine.ok()) return engine.status();
    engine_ = engine.take();
    shared_.engine = engine_.get();
    bool replaced = false;
    shared_.ledger = map_ledger(settings_.folder, settings_.index, settings_.shape, &replaced);
    if (shared_.ledger == nullptr) return Status(Code::kResource, "cannot map the ledger");
    const size_t slots = settings_.shape.threads + settings_.shape.targets;
    TE_RETURN_IF_ERROR(shared_.fragile.open(
        *engine_, fmt::format("{}/local-{}", settings_.folder, settings_.index),
        slots * kLocalSlotBytes));
    // One for each thread; and for each target one that checks whether it recovered, which all own
    // the same ranges, but of a target each.
    for (size_t i = 0; i < slots; ++i) {
      writers_.push_back(
          std::make_unique<Writer>(shared_, std::min(i, settings_.shape.threads), i));
      TE_RETURN_IF_ERROR(writers_.back()->prepare());
      if (replaced && i <= settings_.shape.threads) writers_.back()->replace_dead();
    }
    report("ready", {{"pid", ::getpid()}, {"endpoint", engine_->local_endpoint()}});
    return {};
  }

  void obey_until_the_end() {
    std::vector<std::thread> threads;
    for (size_t target = 0; target < settings_.shape.targets; ++target) {
      threads.emplace_back([this, target] { open_segment(target); });
    }
    for (size_t i = 0; i < settings_.shape.threads; ++i) {
      threads.emplace_back([this, i] { submit_planned(i); });
    }
    threads.emplace_back([this] { tell_counts(); });
    for (std::string line; std::getline(std::cin, line) && line != "quit";) {
      const std::string error = obey(line);
      report("done", {{"command", line}, {"error", error}});
    }
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads) thread.join();
    const int64_t begin = monotonic_ns();
    engine_.reset();
    shared_.heartbeat.catch_up();
    const int64_t end = monotonic_ns();
    const int64_t took = end - begin - shared_.stalls.within(begin, end);
    if (took > settings_.call_ms * kMs) {
      report_violation("blocked", fmt::format("initiator {}: the engine's end took {} ms",
                                              settings_.index, took / kMs));
    }
    report("done", {{"command", "quit"}, {"error", ""}});
  }

 private:
  std::string obey(const std::string& line) {
    std::istringstream words(line);
    std::string command;
    int64_t number = 0;
    words >> command >> number;
    if (command == "start" || command == "resume" || command == "pause") {
      std::unique_lock lock(mutex_);
      running_ = command != "pause";
      changed_.notify_all();
      if (!running_) changed_.wait(lock, [this] { return busy_ == 0; });
      return {};
    }
    if (command == "recover") return recover(number);
    if (command == "sweep" || command == "settle") {
      std::vector<std::thread> threads;
      for (size_t i = 0; i <= settings_.shape.threads; ++i) {
        threads.emplace_back([this, i, command] {
          if (command == "sweep") writers_[i]->sweep();
          if (command == "settle") writers_[i]->settle();
        });
      }
      for (std::thread& thread : threads) thread.join();
      return {};
    }
    return shared_.fragile.change(command);
  }

  void open_segment(size_t target) {
    const std::string& name = settings_.segments[target];
    while (!ended()) {
      const auto segment = engine_->open_segment(name);
      if (segment.ok()) {
        shared_.segments[target] = *segment;
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }

  void submit_planned(size_t thread) {
    const size_t writer = settings_.index * (settings_.shape.threads + 1) + thread;
    for (uint64_t number = 0;; ++number) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return running_ || ended_; });
        if (ended_) return;
        ++busy_;
      }
      const PlannedBatch batch = plan_batch(settings_.seed, writer, number, settings_.shape);
      std::this_thread::sleep_for(std::chrono::microseconds(batch.pause_us));
      if (writers_[thread]->run(batch, number)) writers_[thread]->peek_at_random(number);
      const std::lock_guard lock(mutex_);
      if (--busy_ == 0) changed_.notify_all();
    }
  }

  std::string recover(int64_t limit_ms) {
    std::vector<std::thread> threads;
    for (size_t target = 0; target < settings_.shape.targets; ++target) {
      threads.emplace_back([this, target, limit_ms] { recover(target, limit_ms); });
    }
    for (std::thread& thread : threads) thread.join();
    return {};
  }

  void recover(size_t target, int64_t limit_ms) {
    Writer& writer = *writers_[settings_.shape.threads + target];
    const int64_t begin = monotonic_ns();
    std::string error = "the segment cannot be opened";
    for (bool done = false; !done;) {
      done = shared_.segments[target] >= 0 && writer.write_once(target, kTryMs, &error);
      shared_.heartbeat.catch_up();
      const int64_t now = monotonic_ns();
      const int64_t took = now - begin - shared_.stalls.within(begin, now);
      if (done) report("recovered", {{"target", target}, {"ms", took / kMs}});
      if (!done && took > limit_ms * kMs) {
        report_violation("stuck",
                         fmt::format("initiator {}: no WRITE to target {} completed within {} "
                                     "ms after the last fault was healed: {}",
                                     settings_.index, target, took / kMs, error));
        return;
      }
      if (!done) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }

  void tell_counts() {
    std::unique_lock lock(mutex_);
    while (!ended_) {
      changed_.wait_for(lock, std::chrono::seconds(1));
      const Counts& counts = shared_.counts;
      report("counts", {{"writes", counts.writes.load()},
                        {"reads", counts.reads.load()},
                        {"bytes", counts.bytes.load()},
                        {"failed", counts.failed.load()},
                        {"timeouts", counts.timeouts.load()},
                        {"cancelled", counts.cancelled.load()},
                        {"refused", counts.refused.load()},
                        {"peeks", counts.peeks.load()},
                        {"latest_ms", static_cast<double>(counts.latest_ns.load()) / 1e6}});
    }
  }

  bool ended() {
    const std::lock_guard lock(mutex_);
    return ended_;
  }

  const Settings& settings_;
  Shared shared_;
  std::unique_ptr<Engine> engine_;
  std::vector<std::unique_ptr<Writer>> writers_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool running_ = false;
  bool ended_ = false;
  size_t busy_ = 0;
};

}  // namespace

int run_initiator(const Settings& settings) {
  std::optional<World> world = World::open(settings.folder, settings.shape);
  if (!world.has_value()) {
    report("failed", {{"error", "cannot open the world"}});
    return 3;
  }
  Initiator initiator(settings, std::move(*world));
  const Status started = initiator.start();
  if (!started.ok()) {
    report("failed", {{"error", started.to_string()}});
    return 3;
  }
  initiator.obey_until_the_end();
  return 0;
}

}  // namespace te::soak
