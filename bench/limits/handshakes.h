// How long OpenSSL alone takes for a handshake: what is left of the engine's is its own. Threads:
// the main thread.
#pragma once

#include <string>

#include "transfer_engine/status.h"

namespace te::bench {

// Of TLS 1.3 between two members with certificates, as security = tls makes it, in one thread,
// without sockets: the median of 32, in milliseconds.
Result<double> openssl_handshake_ms(const std::string& authority_file,
                                    const std::string& certificate_file,
                                    const std::string& key_file);

}  // namespace te::bench
