// SIGINT and SIGTERM as a question that long-running commands ask.
//
// The first signal is only noted; a second one ends the process as if nobody had caught it, so a
// command that hangs can always be stopped. Threads: any, after catch_stop_signals().
#pragma once

namespace te::tool {

// Call once, before other threads start.
void catch_stop_signals();
// The signal that came, or 0. An atomic load.
int stop_signal();
// Polls readable from the first signal on. Never read or close it.
int stop_signal_fd();

}  // namespace te::tool
