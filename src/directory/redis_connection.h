// One connection to a redis server: commands with deadlines and a limit on what comes back.
//
// hiredis serves as the codec only. Threads: one at a time.
#pragma once

#include <hiredis/read.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "directory/connection.h"
#include "directory/credentials.h"
#include "directory/redis_stream.h"
#include "transfer_engine/status.h"

namespace te {

inline constexpr size_t kMaxRedisReplyBytes = 64 * 1024;

struct RedisReply {
  bool nil = false;
  int64_t number = 0;  // of integer replies
  std::string text;    // of status and bulk replies
};

class RedisConnection {
 public:
  // Connects, authenticates and selects the database.
  // `known`: redis answered there before, so a connection that ends without an answer is an outage
  // and not another kind of server.
  static Result<std::unique_ptr<RedisConnection>> open(const Connection& connection,
                                                       const DirectoryTls& tls,
                                                       const Credentials& credentials, bool known,
                                                       int64_t deadline_ns);

  // The server's own errors come as kPermission, kProtocol, kUnavailable or kResource and leave the
  // connection usable; any other failure leaves it broken.
  Result<RedisReply> command(const std::vector<std::string_view>& words, int64_t deadline_ns);
  bool broken() const { return broken_; }
  HostPort server() const { return stream_->server(); }

 private:
  struct ReaderDeleter {
    void operator()(redisReader* reader) const;
  };

  RedisConnection(std::unique_ptr<RedisStream> stream, redisReader* reader, bool known)
      : stream_(std::move(stream)), reader_(reader), known_(known) {}
  Status log_in(const Connection& connection, const Credentials& credentials, int64_t deadline_ns);
  Status exchange(const std::vector<std::string_view>& words, int64_t deadline_ns, void** reply);
  Status check_kind(std::string_view first_bytes) const;
  Status lost(const std::string& why) const;

  std::unique_ptr<RedisStream> stream_;
  std::unique_ptr<redisReader, ReaderDeleter> reader_;
  bool known_;  // what listens there is redis
  bool broken_ = false;
};

}  // namespace te
