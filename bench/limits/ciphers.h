// How fast this machine's cores encrypt: the limit of what TLS adds. Threads: the main thread, and
// one per core during a call.
#pragma once

#include <chrono>

#include "transfer_engine/status.h"

namespace te::bench {

// AES-128-GCM over records of 16 KiB on all cores at once, in 10^9 bytes per second together: what
// `openssl speed -evp aes-128-gcm -bytes 16384 -multi CORES` shows.
Result<double> aes_gcm_gb_per_s(std::chrono::milliseconds window);

}  // namespace te::bench
