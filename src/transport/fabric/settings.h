// The settings of this transport.
//
// Constants.
#pragma once

#include "base/options.h"

namespace te::fabric {

inline constexpr Setting kLibrary{
    "fabric_library", "",
    "path of libfabric.so.1; empty: that of AWS if installed, else the system's", Setting::Text{}};
inline constexpr Setting kAddresses{
    "fabric_addresses", "",
    "local addresses for libfabric, separated by commas; empty: all; over sockets (tcp): the "
    "address that the engine was given",
    Setting::Text{}};
inline constexpr Setting kSpin{"fabric_spin_us", "us",
                               "as tcp_spin_us, for completion queues of libfabric",
                               Setting::Number{1000, 0, 1'000'000}};
inline constexpr Setting kMaxRegistration{
    "fabric_max_registration", "bytes",
    "larger buffers are registered with libfabric in several regions; 0: only where required",
    Setting::Number{0, 0, uint64_t{1} << 48}};
inline constexpr Setting kMaxOperation{
    "fabric_max_operation", "bytes",
    "larger slices are split for libfabric; 0: only where required",
    Setting::Number{0, 0, uint64_t{1} << 48}};
inline constexpr const Setting* kSettings[] = {&kLibrary, &kAddresses, &kSpin, &kMaxRegistration,
                                               &kMaxOperation};

}  // namespace te::fabric
