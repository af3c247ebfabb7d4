// The connection string of a directory, understood and checked, before anything is contacted.
//
// Threads: any; no state. A password is in Connection::password only: never in an error.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/secret.h"
#include "base/socket.h"
#include "transfer_engine/status.h"

namespace te {

enum class DirectoryKind { kP2p, kEtcd, kRedis, kHttp };

struct Connection {
  DirectoryKind kind = DirectoryKind::kP2p;
  std::vector<HostPort> endpoints;  // one, except for etcd; none for p2p
  std::string user;                 // redis
  Secret password;                  // redis
  uint32_t database = 0;            // redis
  bool tls = false;
  std::string path;  // http: begins with '/'

  // "host:port" of every endpoint, with commas.
  std::string endpoint_list() const;
};

// What a message adds where TLS and plaintext may have been mixed up.
inline constexpr std::string_view kTlsSchemes =
    "'etcds://', 'rediss://' and 'https://' are for servers with TLS";

// kInvalidArgument, saying what is understood, for everything else.
Result<Connection> parse_connection(std::string_view text);

// Whether `text` can be a host name or an address: its characters and its length, not its
// existence.
bool is_host(std::string_view text);

// `text` for an error message: cut to a line's length, control and foreign characters as '?'.
std::string printable(std::string_view text);

}  // namespace te
