// Which numbers are both an offset in a segment and an address in its process, now or at any time
// since the segment was opened: those that lie in a range that was ever registered and below the
// largest end that the layout ever had. A request that does not say how its number is to be read is
// refused there. A peer may hold on to such a number for as long as it lives, so nothing is ever
// taken out.
//
// Not thread-safe. A call that throws changed nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace te {

// [begin, end)
struct NumberRange {
  uint64_t begin = 0;
  uint64_t end = 0;
};

// Whether `number` is in one of the ranges, which are ascending and apart.
bool contains(const std::vector<NumberRange>& ranges, uint64_t number);
// Whether [begin, end) has a number in common with one of them.
bool overlaps(const std::vector<NumberRange>& ranges, uint64_t begin, uint64_t end);

class Ambiguity {
 public:
  // At most so many ranges are kept. When there are more, neighbours are merged: the highest, as
  // long as they lie above the layout, else the closest. So more may be refused than has to be.
  static constexpr size_t kMaxRanges = 64;

  Ambiguity();

  // A buffer is registered, and the layout ends there now. Returns the numbers that have a second
  // reading from here on: what peers know of buffers that hold one of them, by offset or by
  // address, must become invalid.
  std::vector<NumberRange> add(uint64_t address, uint64_t length, uint64_t layout_end);

  // All numbers with two readings; ascending, apart.
  std::vector<NumberRange> ranges() const;

 private:
  static void insert(std::vector<NumberRange>& ranges, NumberRange range);
  void limit(std::vector<NumberRange>& ranges, uint64_t layout_end) const;

  std::vector<NumberRange> addresses_;  // ever registered, in whole granules
  uint64_t end_ = 0;                    // the largest that the layout had
  uint32_t growths_ = 0;                // how often there were more
};

}  // namespace te
