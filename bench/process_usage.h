// What a process has used so far, as the kernel counts it. Pure questions, any thread.
#pragma once

#include <cstdint>

namespace te::bench {

// CPU time of all threads of this process, user and system.
double cpu_seconds();
// Memory of this process that is present now.
uint64_t resident_bytes();

}  // namespace te::bench
