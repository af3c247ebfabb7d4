// What the processes of a soak share: where each target's memory is now, and the models of all
// ranges.
//
// Three kinds of files, in one folder: "world", which the driver alone writes (soak.py knows its
// layout); "ledger-I", the models of initiator I, which survive its death; "memory-T-B", the memory
// behind buffer B of target T, which survives that of the target.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "soak/range_model.h"

namespace te::soak {

// The buffers of each target.
enum Buffer : size_t {
  kKept = 0,       // a file's mapping, whose content is kept
  kFragile = 1,    // a file's mapping that is truncated, or protected, now and then
  kAllocated = 2,  // the engine's own; its content ends with the process
  kBuffers = 3,
};

// One slot's lengths: around what the transports treat differently.
inline constexpr size_t kSlotLengths[] = {8, 100, 4093, 16'384, 65'541, 300'000, 1'000'003};
inline constexpr size_t kSlots = std::size(kSlotLengths);

// The shape of a run. Every process gets the same.
struct Shape {
  size_t targets = 1;
  size_t initiators = 1;
  size_t threads =
      1;  // of each initiator; one more owns ranges of its own, for the recovery checks

  size_t writers() const { return initiators * (threads + 1); }
  size_t buffer_bytes() const;
};

// A range of a target's buffer, and who owns it.
struct Place {
  size_t target = 0;
  size_t buffer = 0;
  size_t writer = 0;  // initiator * (threads + 1) + thread
  size_t slot = 0;

  uint64_t id() const;    // unique in the run, never 0
  size_t offset() const;  // in the buffer
  size_t length() const { return kSlotLengths[slot]; }
};

// As the driver writes it, one for each target.
struct TargetNow {
  std::atomic<uint64_t> pid;  // 0: not running
  std::atomic<uint64_t> run;  // counts its processes
  std::atomic<uint64_t> addresses[kBuffers];
  std::atomic<uint64_t> epochs[kBuffers];  // see RangeModel: odd while content may be lost
};

class World {
 public:
  static std::optional<World> open(const std::string& folder, const Shape& shape);
  const TargetNow& target(size_t index) const { return targets_[index]; }

  // Reads a target's memory without the library; nothing while it cannot be read. True: `into` is
  // filled. `epoch`: to check it with.
  bool peek(const Place& place, std::span<std::byte> into, uint64_t* epoch) const;
  // Writes it: for planted faults.
  bool poke(const Place& place, std::span<const std::byte> from) const;

 private:
  const TargetNow* targets_ = nullptr;
  std::vector<int> files_;  // of [target][kKept, kFragile]
};

// The models of one initiator's ranges, mapped for writing and created when missing; null on
// failure.
RangeState* map_ledger(const std::string& folder, size_t initiator, const Shape& shape,
                       bool* existed);
size_t ledger_index(const Place& place, const Shape& shape);

std::string memory_file(const std::string& folder, size_t target, size_t buffer);

}  // namespace te::soak
