#include "core/layout.h"

#include <iterator>

namespace te {

// One node more than there are ranges in use, and room in the list for all of them.
void Layout::add_spare() {
  if (holes_.size() + spares_.size() > placed_) return;
  if (spares_.capacity() <= placed_) spares_.reserve(2 * placed_ + 8);
  Holes one;
  one.emplace(0, 0);
  spares_.push_back(one.extract(one.begin()));
}

uint64_t Layout::place(uint64_t length) {
  add_spare();
  ++placed_;
  for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
    if (hole->second < length) continue;
    Holes::node_type node = holes_.extract(hole);
    const uint64_t offset = node.key();
    const uint64_t left = node.mapped() - length;
    if (left == 0) {
      spares_.push_back(std::move(node));
    } else {
      node.key() = offset + length;
      node.mapped() = left;
      holes_.insert(std::move(node));
    }
    return offset;
  }
  const uint64_t offset = end_;
  end_ += length;
  return offset;
}

void Layout::free(uint64_t offset, uint64_t length) {
  --placed_;
  auto next = holes_.lower_bound(offset);
  if (next != holes_.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == offset) {
      offset = previous->first;
      length += previous->second;
      spares_.push_back(holes_.extract(previous));
    }
  }
  if (next != holes_.end() && offset + length == next->first) {
    length += next->second;
    spares_.push_back(holes_.extract(next));
  }
  if (offset + length == end_) {
    end_ = offset;
    return;
  }
  Holes::node_type node = std::move(spares_.back());
  spares_.pop_back();
  node.key() = offset;
  node.mapped() = length;
  holes_.insert(std::move(node));
}

}  // namespace te
