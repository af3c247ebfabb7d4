// The model of what one range of a target's memory may hold. One writer at a time owns a range and
// every WRITE covers all of it, so WRITEs are numbered, and the range may hold any mixture of the
// last COMPLETED one and those begun since. A COMPLETED WRITE excludes everything older.
//
// RangeState is plain data and lies in a file, so that the model survives the death of its process.
// Threads: one at a time, the range's owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace te::soak {

struct RangeState {
  uint64_t base;       // the last WRITE that COMPLETED; 0: none, the memory is zeros
  uint64_t last;       // the last WRITE that was begun
  uint64_t epoch;      // the buffer's content epoch when `base` was begun
  uint64_t abandoned;  // bit k: WRITE `last - k` ended without COMPLETED
  uint64_t seen;       // this WRITE was once found in place, whole
  uint64_t stray;      // WRITEs (base, stray] of a process that died may still arrive, once more
  uint64_t stray_low;  // ... from this one on; 0: none
  uint64_t unknown;    // a breach was reported: everything is allowed until a WRITE COMPLETES
};

// What a range holds that it may not.
struct Breach {
  std::string kind;  // "ghost", "lost", "poison" or "corrupt"; empty: none
  size_t at = 0;     // byte in the range
  std::string text;

  bool ok() const { return kind.empty(); }
};

class RangeModel {
 public:
  // `range`: a number unique in the run. `state` must outlive the model.
  RangeModel(uint64_t range, RangeState& state) : range_(range), state_(state) {}

  // The number of the WRITE that is about to be submitted. `zeros`: its source may become zeros
  // before they are sent.
  uint64_t begin_write(bool zeros = false);
  // It is terminal. `epoch`: the buffer's epoch before it was submitted, odd while content may be
  // lost; a changed or odd one leaves zeros possible.
  void end_write(uint64_t sequence, bool completed, uint64_t epoch);
  // The writer's process died and was replaced: its WRITEs that did not complete may arrive late,
  // since no engine is left that could fence them.
  void replace_writer();
  // The network was quiet long enough for those to have arrived.
  void settle();

  // Compares memory, a READ's result or the target's, with the model. `epoch`: the buffer's now.
  Breach check(const std::byte* memory, size_t length, uint64_t epoch) const;
  // After a breach was reported: no second report of the same bytes.
  void forget() { state_.unknown = 1; }

 private:
  bool allowed(uint64_t sequence, bool zeros) const;
  bool mixture(const std::byte* bytes, size_t count, uint64_t index, bool zeros) const;
  std::optional<uint64_t> origin(const std::byte* memory, size_t length, size_t at) const;
  Breach explain(const std::byte* memory, size_t length, size_t at) const;

  uint64_t range_;
  RangeState& state_;
};

}  // namespace te::soak
