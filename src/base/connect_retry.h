// When to connect once more to a peer that is there but had no room. Many that were refused at one
// moment do not come back at one moment: the times are random.
//
// Threads: one at a time.
#pragma once

#include <cstdint>

#include "transfer_engine/status.h"

namespace te {

class ConnectRetry {
 public:
  // No attempt begins after `deadline_ns`.
  explicit ConnectRetry(int64_t deadline_ns) : deadline_ns_(deadline_ns) {}

  // Milliseconds until the next attempt, or -1 to give up. `code`: how the last one ended. kBusy,
  // the peer's answer, and kResource, a lack of descriptors here, are worth attempts until the
  // deadline. kUnavailable is worth a few, and only where the connection stood (`connected`): a
  // peer that is overrun closes connections.
  int64_t next_ms(Code code, bool connected, int64_t now_ns);

 private:
  const int64_t deadline_ns_;
  int64_t step_ms_ = 0;
  int lost_ = 0;
};

}  // namespace te
