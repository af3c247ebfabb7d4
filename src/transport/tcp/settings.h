// The settings of this transport.
//
// Constants.
#pragma once

#include <string_view>

#include "base/options.h"

namespace te::tcp {

inline constexpr Setting kConnections{"tcp_connections", "",
                                      "TCP connections per peer; 0: by the number of cores",
                                      Setting::Number{0, 0, 64}};
inline constexpr Setting kThreads{"tcp_threads", "",
                                  "threads that serve TCP connections; 0: by the number of cores",
                                  Setting::Number{0, 0, 64}};
inline constexpr Setting kSpin{"tcp_spin_us", "us", "maximum time to busy-poll before sleeping",
                               Setting::Number{100, 0, 1'000'000}};
// on: wherever the kernel takes it; auto: where it pays
inline constexpr std::string_view kZeroCopyModes[] = {"off", "auto", "on"};
inline constexpr Setting kZeroCopy{
    "tcp_zero_copy", "",
    "off, auto or on: zero-copy sends (MSG_ZEROCOPY) for large WRITEs; such tasks may end 2 s "
    "after their deadlines while this machine's own queues hold packets",
    Setting::Text{"off", kZeroCopyModes}};
inline constexpr const Setting* kSettings[] = {&kConnections, &kThreads, &kSpin, &kZeroCopy};

}  // namespace te::tcp
