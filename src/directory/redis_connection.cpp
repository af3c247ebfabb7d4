#include "directory/redis_connection.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/thread.h"

namespace te {
namespace {

struct Lookup {
  Mutex mutex;
  CondVar done;
  std::optional<Result<std::vector<SocketAddress>>> answer TE_GUARDED_BY(mutex);
};

// Name servers that do not answer block for longer than the deadline: the look-up then goes on in a
// thread of its own, which owns what it writes to.
Result<std::vector<SocketAddress>> resolve_within(const std::string& host, uint16_t port,
                                                  int64_t deadline_ns) {
  if (is_numeric_address(host)) return resolve_host(host, port);
  const auto lookup = std::make_shared<Lookup>();
  Result<Thread> thread = Thread::start("te-resolve", [lookup, host, port] {
    Result<std::vector<SocketAddress>> addresses = resolve_host(host, port);
    MutexLock lock(lookup->mutex);
    lookup->answer.emplace(std::move(addresses));
    lookup->done.notify_all();
  });
  if (!thread.ok()) return thread.status();
  thread->detach();
  MutexLock lock(lookup->mutex);
  while (!lookup->answer) {
    if (!lookup->done.wait_until(lookup->mutex, to_time_point(deadline_ns)) && !lookup->answer) {
      return error(Code::kUnavailable,
                   "the name servers did not resolve '{}' within directory_timeout_ms", host);
    }
  }
  return *lookup->answer;
}

Result<BlockingStream> connect_any(const HostPort& endpoint, int64_t deadline_ns) {
  const Result<std::vector<SocketAddress>> addresses =
      resolve_within(endpoint.host, endpoint.port, deadline_ns);
  if (!addresses.ok()) return addresses.status();
  Status failure;
  for (size_t i = 0; i < addresses->size(); ++i) {
    const int64_t now = now_ns();
    const int64_t share_ns = (deadline_ns - now) / static_cast<int64_t>(addresses->size() - i);
    Result<BlockingStream> stream = BlockingStream::connect((*addresses)[i], now + share_ns);
    if (stream.ok()) return stream;
    failure = stream.status();
  }
  return failure;
}

// What the server's own error text means.
Status server_error(std::string_view text) {
  const auto has = [text](std::string_view word) {
    return text.find(word) != std::string_view::npos;
  };
  const std::string message = printable(text);
  if (has("NOAUTH")) {
    return error(Code::kPermission, "it wants a password: write 'redis://:password@host:port' ({})",
                 message);
  }
  if (has("WRONGPASS") || has("invalid password") || has("ERR AUTH") || has("sent AUTH")) {
    return error(Code::kPermission, "it refused the password ({})", message);
  }
  if (has("NOPERM")) return Status(Code::kPermission, message);
  if (has("WRONGTYPE")) {
    return error(Code::kProtocol, "the key holds something else than a text ({})", message);
  }
  if (has("DB index")) return Status(Code::kInvalidArgument, message);
  for (const std::string_view passing : {"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "BUSY",
                                         "MISCONF", "OOM", "TRYAGAIN", "max number of clients"}) {
    if (has(passing)) return Status(Code::kUnavailable, message);
  }
  if (has("MOVED") || has("ASK ")) {
    return error(Code::kUnsupported, "redis clusters are not supported ({})", message);
  }
  return error(Code::kProtocol, "an unexpected error: '{}'", message);
}

struct ReplyDeleter {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};

}  // namespace

void RedisConnection::ReaderDeleter::operator()(redisReader* reader) const {
  redisReaderFree(reader);
}

Result<std::unique_ptr<RedisConnection>> RedisConnection::open(const Connection& connection,
                                                               bool known, int64_t deadline_ns) {
  Result<BlockingStream> stream = connect_any(connection.endpoints.front(), deadline_ns);
  if (!stream.ok()) return stream.status();
  redisReader* reader = redisReaderCreate();
  if (reader == nullptr) return Status(Code::kResource, "no memory for a redis connection");
  std::unique_ptr<RedisConnection> opened(new RedisConnection(stream.take(), reader, known));
  TE_RETURN_IF_ERROR(opened->log_in(connection, deadline_ns));
  return opened;
}

Status RedisConnection::log_in(const Connection& connection, int64_t deadline_ns) {
  if (!connection.password.empty()) {
    std::vector<std::string_view> words = {"AUTH"};
    if (!connection.user.empty()) words.push_back(connection.user);
    words.push_back(connection.password);
    const Result<RedisReply> reply = command(words, deadline_ns);
    if (!reply.ok()) {
      // A server that does not know AUTH repeats its arguments.
      if (reply.status().message().find(connection.password) == std::string::npos) {
        return reply.status();
      }
      return Status(Code::kPermission, "it refused the password");
    }
  }
  if (connection.database != 0) {
    const std::string number = std::to_string(connection.database);
    return command({"SELECT", number}, deadline_ns).status();
  }
  return {};
}

HostPort RedisConnection::server() const {
  const SocketAddress address = peer_address(stream_.fd());
  return {address.host(), address.port(), true};
}

Result<RedisReply> RedisConnection::command(const std::vector<std::string_view>& words,
                                            int64_t deadline_ns) {
  void* raw = nullptr;
  const Status status = exchange(words, deadline_ns, &raw);
  if (!status.ok()) {
    broken_ = true;
    return status;
  }
  const std::unique_ptr<redisReply, ReplyDeleter> reply(static_cast<redisReply*>(raw));
  const std::string_view text =
      reply->str == nullptr ? std::string_view() : std::string_view(reply->str, reply->len);
  RedisReply result;
  switch (reply->type) {
    case REDIS_REPLY_ERROR:
      return server_error(text);
    case REDIS_REPLY_NIL:
      result.nil = true;
      return result;
    case REDIS_REPLY_INTEGER:
      result.number = reply->integer;
      return result;
    default:
      result.text = text;
      return result;
  }
}

Status RedisConnection::exchange(const std::vector<std::string_view>& words, int64_t deadline_ns,
                                 void** reply) {
  std::vector<const char*> texts;
  std::vector<size_t> lengths;
  for (const std::string_view word : words) {
    texts.push_back(word.data());
    lengths.push_back(word.size());
  }
  char* bytes = nullptr;
  const int size =
      redisFormatCommandArgv(&bytes, static_cast<int>(words.size()), texts.data(), lengths.data());
  if (size < 0) return Status(Code::kResource, "no memory for a redis command");
  const std::unique_ptr<char, decltype(&std::free)> owner(bytes, &std::free);
  if (const Status sent = stream_.send_all({bytes, static_cast<size_t>(size)}, deadline_ns);
      !sent.ok()) {
    return Status(Code::kUnavailable, sent.message());
  }
  size_t total = 0;
  std::array<char, 16 * 1024> buffer;
  while (*reply == nullptr) {
    const Result<size_t> got = receive(buffer.data(), buffer.size(), deadline_ns);
    if (!got.ok()) return got.status();
    if (total == 0) TE_RETURN_IF_ERROR(check_kind({buffer.data(), *got}));
    total += *got;
    if (total > kMaxRedisReplyBytes) {
      return error(Code::kProtocol, "its answer is longer than {} bytes", kMaxRedisReplyBytes);
    }
    if (redisReaderFeed(reader_.get(), buffer.data(), *got) != REDIS_OK ||
        redisReaderGetReply(reader_.get(), reply) != REDIS_OK) {
      return error(Code::kProtocol, "its answer is malformed ({})", reader_->errstr);
    }
  }
  if (reader_->pos < reader_->len) {
    freeReplyObject(std::exchange(*reply, nullptr));
    return Status(Code::kProtocol, "it answered more than was asked");
  }
  known_ = true;
  return {};
}

// Only the kinds of answers that our commands have: what else comes is another server, or hostile.
Status RedisConnection::check_kind(std::string_view first_bytes) const {
  constexpr std::string_view kKinds = "+-:$";
  if (kKinds.find(first_bytes.front()) != std::string_view::npos) return {};
  return error(Code::kProtocol, "what answers there is not redis: it says '{}'",
               printable(first_bytes.substr(0, first_bytes.find_first_of("\r\n"))));
}

Status RedisConnection::lost(const std::string& why) const {
  if (known_) return Status(Code::kUnavailable, why);
  return error(Code::kProtocol, "what listens there gives no redis answer ({})", why);
}

Result<size_t> RedisConnection::receive(char* into, size_t size, int64_t deadline_ns) {
  for (;;) {
    const ssize_t got = ::recv(stream_.fd(), into, size, 0);
    if (got > 0) return static_cast<size_t>(got);
    if (got == 0) return lost("it closed the connection");
    if (errno != EAGAIN && errno != EINTR) return lost("connection lost: " + errno_text(errno));
    const int64_t left_ns = deadline_ns - now_ns();
    if (left_ns <= 0) return Status(Code::kUnavailable, "no answer within directory_timeout_ms");
    pollfd entry{stream_.fd(), POLLIN, 0};
    if (::poll(&entry, 1, static_cast<int>(std::min<int64_t>(left_ns / kNsPerMs + 1, 60'000))) <
            0 &&
        errno != EINTR) {
      return error(Code::kResource, "poll: {}", errno_text(errno));
    }
  }
}

}  // namespace te
