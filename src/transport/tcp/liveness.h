// Whether a peer's machine is still there, as the kernel here knows it. No function here keeps
// state.
#pragma once

#include <cstdint>

namespace te::tcp {

// A connection on which nothing is acknowledged for `stall_timeout_ms` ends; an idle one is probed.
void watch_peer(int fd, uint64_t stall_timeout_ms);

// Whether the same bytes were sent again so often without an acknowledgement. A peer that stands
// still, or takes nothing, still acknowledges: its kernel does. One that is gone without a word
// does not, and the kernel here would wait ever longer between two attempts to be heard, also when
// there is somebody again.
bool unheard(int fd, unsigned retransmissions);

}  // namespace te::tcp
