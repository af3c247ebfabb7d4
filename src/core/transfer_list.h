// Lists of ranges that are one task: their checks, and the ranges merged. Pure.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "transfer_engine/status.h"
#include "transfer_engine/types.h"

namespace te {

// What is contiguous at both ends.
struct ListRange {
  std::byte* source = nullptr;
  uint64_t target_offset = 0;
  uint64_t length = 0;
};

// A list whose ranges are merged already.
struct MergedList {
  Opcode opcode = Opcode::kWrite;
  SegmentId target_id = kLocalSegment;
  std::vector<ListRange> ranges = {};
  uint64_t bytes = 0;
};

using AnyList =
    std::variant<std::monostate, const BlockList*, const AddressList*, const MergedList*>;

// kInvalidArgument: lists of different lengths, an empty block, numbers that wrap. What memory is
// registered is not looked at.
Status check_list(const BlockList& list);
Status check_list(const AddressList& list);

// The ranges in order, merged, none of them empty. `visit` returns a Status; the first error ends
// it. Of a list that is checked.
template <typename Visit>
Status for_each_range(const BlockList& list, Visit&& visit) {
  const size_t count = list.source_blocks.size();
  for (const BlockRegion& region : list.regions) {
    for (size_t first = 0, next = 1; first < count; first = next, next = first + 1) {
      const uint64_t source = list.source_blocks[first], target = list.target_blocks[first];
      while (next < count && list.source_blocks[next] == source + (next - first) &&
             list.target_blocks[next] == target + (next - first)) {
        ++next;
      }
      const ListRange range{static_cast<std::byte*>(region.source) + source * region.block_size,
                            region.target_offset + target * region.block_size,
                            (next - first) * region.block_size};
      if (Status status = visit(range); !status.ok()) return status;
    }
  }
  return {};
}

template <typename Visit>
Status for_each_range(const AddressList& list, Visit&& visit) {
  const size_t count = list.lengths.size();
  for (size_t first = 0, next = 0; first < count; first = next) {
    uint64_t length = list.lengths[first];
    for (next = first + 1; next < count && list.sources[next] == list.sources[first] + length &&
                           list.target_offsets[next] == list.target_offsets[first] + length;
         ++next) {
      length += list.lengths[next];
    }
    if (length == 0) continue;
    const ListRange range{reinterpret_cast<std::byte*>(list.sources[first]),
                          list.target_offsets[first], length};
    if (Status status = visit(range); !status.ok()) return status;
  }
  return {};
}

template <typename Visit>
Status for_each_range(const MergedList& list, Visit&& visit) {
  for (const ListRange& range : list.ranges) {
    if (Status status = visit(range); !status.ok()) return status;
  }
  return {};
}

template <typename List>
MergedList merge(const List& list) {
  MergedList merged{list.opcode, list.target_id};
  (void)for_each_range(list, [&merged](const ListRange& range) {
    merged.ranges.push_back(range);
    merged.bytes += range.length;
    return Status();
  });
  return merged;
}

}  // namespace te
