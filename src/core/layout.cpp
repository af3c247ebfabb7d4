#include "core/layout.h"

#include <iterator>

namespace te {

uint64_t Layout::place(uint64_t length) {
  for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
    if (hole->second < length) continue;
    const uint64_t offset = hole->first;
    const uint64_t left = hole->second - length;
    holes_.erase(hole);
    if (left > 0) holes_.emplace(offset + length, left);
    return offset;
  }
  const uint64_t offset = end_;
  end_ += length;
  return offset;
}

void Layout::free(uint64_t offset, uint64_t length) {
  auto next = holes_.lower_bound(offset);
  if (next != holes_.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == offset) {
      offset = previous->first;
      length += previous->second;
      holes_.erase(previous);
    }
  }
  if (next != holes_.end() && offset + length == next->first) {
    length += next->second;
    holes_.erase(next);
  }
  if (offset + length == end_) {
    end_ = offset;
  } else {
    holes_.emplace(offset, length);
  }
}

}  // namespace te
