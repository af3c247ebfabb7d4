// One writer of an initiator: owns ranges of every target, their models and local memory, submits
// what is planned, and checks what comes of it: bytes, ends and times.
//
// Threads: one at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "soak/local_memory.h"
#include "soak/request_plan.h"
#include "soak/settings.h"
#include "soak/stalls.h"

namespace te::soak {

// Of one process, told every second.
struct Counts {
  std::atomic<uint64_t> writes{0}, reads{0}, bytes{0};  // completed and verified
  std::atomic<uint64_t> failed{0}, timeouts{0}, cancelled{0}, refused{0};
  std::atomic<uint64_t> peeks{0};  // of memory that no request was under way to
  std::atomic<int64_t> latest_ns{INT64_MIN};
};

// What the writers of a process share.
struct Shared {
  const Settings& settings;
  World world;
  Engine* engine = nullptr;
  RangeState* ledger = nullptr;
  FragileFile fragile;
  Counts counts;
  StallLog stalls;
  Heartbeat heartbeat{stalls};
  std::vector<std::atomic<SegmentId>> segments;  // -1: not open yet

  Shared(const Settings& given, World opened)
      : settings(given), world(std::move(opened)), segments(given.shape.targets) {
    for (auto& segment : segments) segment = -1;
  }
};

class Writer {
 public:
  Writer(Shared& shared, size_t thread, size_t fragile_slot);
  Status prepare() { return local_.register_with(*shared_.engine); }
  // In place of a process that died; `settle` when late bytes of it have had their time.
  void replace_dead();
  void settle();

  // False: the segment is not open yet.
  bool run(const PlannedBatch& batch, uint64_t number);
  // WRITEs to one range of every buffer; true when all completed.
  bool write_once(size_t target, int64_t timeout_ms, std::string* error);
  // Nothing is under way: every range is checked from outside and read.
  void sweep();
  // One range, from outside.
  void peek_at_random(uint64_t number);

 private:
  struct Task {
    Place place;
    bool write = true;
    uint64_t sequence = 0;
    uint64_t epoch = 0;  // of the buffer, before it was submitted
    LocalMemory::Use use;
  };
  struct Times {
    int64_t submitted_ns = 0;
    int64_t cancelled_ns = 0;
    int64_t end_ns = 0;
  };

  Place place(size_t target, size_t buffer, size_t slot) const;
  RangeModel model(const Place& place);
  uint64_t epoch(const Place& place) const;
  Task begin(const Place& place, bool write, bool fragile);
  // Submits and waits; the ends of the tasks, or nothing where it was refused.
  std::vector<TaskState> execute(std::vector<Task>& tasks, const PlannedBatch& batch,
                                 const std::string& note, std::string* error);
  void wait(BatchId id, WaitStyle style, int64_t deadline_ns);
  void check_times(const PlannedBatch& batch, const Times& times, TaskState state,
                   const std::string& error);
  void end(const Task& task, TaskState state);
  void check_task(const Task& task);
  void peek(const Place& place, const char* when);
  void tell(const Place& place, const Breach& breach, const std::string& when);
  void tell_unmet(const PlannedBatch& batch, const Times& times, TaskState state,
                  const std::string& error);
  void plant(const Task& task, TaskState state);

  Shared& shared_;
  const size_t thread_;
  const size_t writer_;
  LocalMemory local_;
  std::vector<std::byte> scratch_;
  uint64_t planted_ = 0;
};

}  // namespace te::soak
