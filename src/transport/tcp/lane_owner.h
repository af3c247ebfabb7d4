// What a lane tells its path, from whichever thread found out.
#pragma once

#include "transfer_engine/status.h"

namespace te::tcp {

class Lane;

class LaneOwner {
 public:
  virtual ~LaneOwner() = default;
  virtual void lane_ready(Lane& lane) = 0;
  // A socket is full: a caller that makes progress has to look for room too.
  virtual void lane_blocked() {}
  // The connection is of no use any more; the owner calls fail() on every lane of the session.
  virtual void lane_broken(Lane& lane, Status why) = 0;
  // The lane breaks, since the memory of a WRITE could not be read after some of its frame left.
  // For a while after that, all lanes are to look before they send.
  virtual void found_unreadable() {}
  virtual bool careful() { return false; }
};

}  // namespace te::tcp
