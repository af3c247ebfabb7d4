// The HTTP listener of the metadata server, plain or over TLS. Threads: any; no state.
#pragma once

#include <memory>
#include <string>

#include "transfer_engine/status.h"

namespace httplib {
class Server;
struct Request;
}  // namespace httplib

namespace te::tool {

struct ServerTlsFiles {
  std::string tls_cert;  // empty: no TLS
  std::string tls_key;   // empty: in tls_cert
  std::string tls_ca;    // clients need a certificate of these authorities; empty: need none
};

// Over TLS 1.2 or later where `files` has a certificate. kInvalidArgument names the file that
// cannot be used.
Result<std::unique_ptr<httplib::Server>> make_listener(const ServerTlsFiles& files);

// Why the client's certificate does not do where `files` demands one; empty: it does. A handshake
// without a good one succeeds, because TLS 1.3 has no way to refuse it that clients see for sure:
// the request is to be refused.
std::string certificate_problem(const ServerTlsFiles& files, const httplib::Request& request);

}  // namespace te::tool
