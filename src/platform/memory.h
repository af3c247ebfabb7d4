// What this machine's memory looks like.
#pragma once

#include <cstdint>

namespace te {

// The number of memory nodes ("cpu:0" up to that); at least 1.
uint32_t memory_node_count();

}  // namespace te
