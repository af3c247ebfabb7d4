// The bytes to and from a redis server, over TCP or over TLS.
//
// Threads: one at a time. Every call ends at its deadline, and a lost connection raises no signal.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/options.h"
#include "base/socket.h"
#include "transfer_engine/status.h"

namespace te {

class RedisStream {
 public:
  virtual ~RedisStream() = default;

  virtual Status send(std::string_view bytes, int64_t deadline_ns) = 0;
  // At least one byte, or 0 when the connection has ended: ending() says how. kUnavailable at the
  // deadline.
  virtual Result<size_t> receive(char* into, size_t size, int64_t deadline_ns) = 0;
  virtual HostPort server() const = 0;

  const std::string& ending() const { return ending_; }

 protected:
  size_t ended(std::string how) {
    ending_ = std::move(how);
    return 0;
  }

 private:
  std::string ending_;
};

// The host is resolved within the deadline too.
Result<std::unique_ptr<RedisStream>> open_plain_stream(const HostPort& endpoint,
                                                       int64_t deadline_ns);
// Failures are those of curl_failure().
Result<std::unique_ptr<RedisStream>> open_tls_stream(const HostPort& endpoint,
                                                     const DirectoryTls& tls, int64_t deadline_ns);

// Until the descriptor is ready for `events`; kUnavailable at the deadline.
Status wait_for_redis(int fd, short events, int64_t deadline_ns);

}  // namespace te
