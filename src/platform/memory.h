// What this machine's memory looks like, and where pages lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace te {

// The number of memory nodes ("cpu:0" up to that); at least 1.
uint32_t memory_node_count();

// Asks the kernel to take pages of that node ("cpu:N") for memory that has none yet; they come from
// elsewhere where it has no room, or does not listen.
void place_on_node(void* addr, size_t length, uint32_t node);

// A part of a range whose pages lie on one node.
struct NodeRange {
  uint64_t address = 0;  // where it begins; it ends where the next one does, or the whole range
  uint32_t node = 0;
};

// On which nodes the pages of [address, address + length) lie, ascending. Of a large range not
// every page is looked at, but kPageSamples evenly spaced ones; pages that do not exist yet count
// as their neighbours. Empty where nothing is known, because no page exists or the kernel does not
// tell, and where the pages are interleaved (more than kMaxNodeRanges pieces): no place is better
// than another then.
inline constexpr size_t kPageSamples = 16'384;
inline constexpr size_t kMaxNodeRanges = 256;
std::vector<NodeRange> memory_nodes_of(uint64_t address, uint64_t length);

}  // namespace te
