// The settings of this transport.
//
// Constants.
#pragma once

#include "base/options.h"

namespace te::rdma {

inline constexpr Setting kLibrary{"rdma_library", "",
                                  "path of libibverbs.so.1; empty: the system's", Setting::Text{}};
inline constexpr Setting kEndpoints{
    "rdma_endpoints", "",
    "queue pairs to NICs of peers, alive at once; a new one replaces an idle one",
    Setting::Number{1'024, 1, 1'000'000}};
inline constexpr Setting kInboundEndpoints{"rdma_inbound_endpoints", "",
                                           "queue pairs that peers connect to; more are refused",
                                           Setting::Number{4'096, 1, 1'000'000}};
inline constexpr Setting kSpin{"rdma_spin_us", "us",
                               "as tcp_spin_us, for completion queues of RDMA NICs",
                               Setting::Number{100, 0, 1'000'000}};
inline constexpr Setting kMaxRegistration{
    "rdma_max_registration", "bytes",
    "larger buffers are registered with RDMA NICs in several regions; 0: only where required",
    Setting::Number{0, 0, uint64_t{1} << 48}};
inline constexpr const Setting* kSettings[] = {&kLibrary, &kEndpoints, &kInboundEndpoints, &kSpin,
                                               &kMaxRegistration};

}  // namespace te::rdma
