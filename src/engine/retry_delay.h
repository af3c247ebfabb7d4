// How long what a peer did not take waits until it is tried again: twice as long each time.
//
// Constants.
#pragma once

#include <cstdint>

namespace te {

inline constexpr int64_t kFirstRetryMs = 5;
inline constexpr int64_t kLongestRetryMs = 250;

}  // namespace te
