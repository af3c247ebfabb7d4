// The requests of a soak: what thread T of initiator I submits as its N-th batch is a pure function
// of the seed, so two runs with one seed ask for the same.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "soak/world.h"

namespace te::soak {

enum class WaitStyle { kWait, kWaitBriefly, kPollStatus, kEventFd };

struct PlannedRequest {
  bool write = true;
  size_t buffer = kKept;
  size_t slot = 0;
  bool fragile_source = false;  // local memory that may be truncated or read-only
};

struct PlannedBatch {
  size_t target = 0;
  std::vector<PlannedRequest> requests;  // to distinct ranges
  int64_t timeout_ms = 0;
  WaitStyle wait = WaitStyle::kWait;
  int64_t cancel_after_us = -1;  // -1: not cancelled
  bool notify = false;
  int64_t pause_us = 0;  // before it
};

PlannedBatch plan_batch(uint64_t seed, size_t writer, uint64_t number, const Shape& shape);

}  // namespace te::soak
