// The numeric address of the server that answered last, and the local address that reaches it.
//
// Threads: any.
#pragma once

#include <string>

#include "base/mutex.h"
#include "base/socket.h"

namespace te {

class LastServer {
 public:
  void set(const HostPort& server) TE_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    server_ = server;
  }

  // Empty before the first answer, and when no way leads there any more.
  std::string local_address() const TE_EXCLUDES(mutex_) {
    HostPort server;
    {
      MutexLock lock(mutex_);
      server = server_;
    }
    if (!is_numeric_address(server.host)) return {};
    const Result<std::vector<SocketAddress>> addresses = resolve_host(server.host, server.port);
    return addresses.ok() ? local_address_towards(addresses->front()) : std::string();
  }

 private:
  mutable Mutex mutex_;
  HostPort server_ TE_GUARDED_BY(mutex_);
};

}  // namespace te
