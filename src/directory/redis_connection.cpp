#include "directory/redis_connection.h"

#include <hiredis/hiredis.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/log.h"

namespace te {
namespace {

// What the server's own error text means.
Status server_error(std::string_view text) {
  const auto has = [text](std::string_view word) {
    return text.find(word) != std::string_view::npos;
  };
  const std::string message = printable(text);
  if (has("NOAUTH")) {
    return error(Code::kPermission, "it wants a password: set directory_password_file ({})",
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
                                                               const DirectoryTls& tls,
                                                               const Credentials& credentials,
                                                               bool known, int64_t deadline_ns) {
  const HostPort& endpoint = connection.endpoints.front();
  Result<std::unique_ptr<RedisStream>> stream = connection.tls
                                                    ? open_tls_stream(endpoint, tls, deadline_ns)
                                                    : open_plain_stream(endpoint, deadline_ns);
  if (!stream.ok()) return stream.status();
  redisReader* reader = redisReaderCreate();
  if (reader == nullptr) return Status(Code::kResource, "no memory for a redis connection");
  std::unique_ptr<RedisConnection> opened(new RedisConnection(stream.take(), reader, known));
  TE_RETURN_IF_ERROR(opened->log_in(connection, credentials, deadline_ns));
  return opened;
}

Status RedisConnection::log_in(const Connection& connection, const Credentials& credentials,
                               int64_t deadline_ns) {
  if (credentials.has_password()) {
    const Result<Secret> password = credentials.password();
    if (!password.ok()) return password.status();
    std::vector<std::string_view> words = {"AUTH"};
    if (!credentials.user().empty()) words.push_back(credentials.user());
    words.push_back(password->view());
    const Result<RedisReply> reply = command(words, deadline_ns);
    // A server that does not know AUTH repeats its arguments.
    const bool repeats = reply.status().message().find(password->view()) != std::string::npos;
    if (repeats || (reply.code() == Code::kProtocol && !broken_)) {
      return Status(Code::kPermission, "it refused the password");
    }
    if (!reply.ok()) return reply.status();
  }
  if (connection.database != 0) {
    const std::string number = std::to_string(connection.database);
    return command({"SELECT", number}, deadline_ns).status();
  }
  return {};
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
  const std::string_view text(bytes, static_cast<size_t>(size));
  const Status sent = stream_->send(text, deadline_ns);
  ::explicit_bzero(bytes, text.size());  // AUTH has the password
  std::free(bytes);
  if (!sent.ok()) return sent;
  size_t total = 0;
  std::array<char, 16 * 1024> buffer;
  while (*reply == nullptr) {
    const Result<size_t> got = stream_->receive(buffer.data(), buffer.size(), deadline_ns);
    if (!got.ok()) return got.status();
    if (*got == 0) return lost(stream_->ending());
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
  constexpr char kTlsAlert = 0x15;
  if (kKinds.find(first_bytes.front()) != std::string_view::npos) return {};
  if (first_bytes.front() == kTlsAlert) {
    return Status(Code::kProtocol, "what answers there speaks TLS: write 'rediss://'");
  }
  return error(Code::kProtocol, "what answers there is not redis: it says '{}'",
               printable(first_bytes.substr(0, first_bytes.find_first_of("\r\n"))));
}

Status RedisConnection::lost(const std::string& why) const {
  if (known_) return Status(Code::kUnavailable, why);
  return error(Code::kProtocol, "what listens there gives no redis answer ({}); {}", why,
               kTlsSchemes);
}

}  // namespace te
