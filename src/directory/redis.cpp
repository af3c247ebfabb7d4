// The store over redis: one key with an expiry for each name. What must be compared is compared by
// the server, in small scripts. Threads: any; each call has a connection of its own, kept for
// later.
#include <atomic>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "directory/last_server.h"
#include "directory/record.h"
#include "directory/redis_connection.h"
#include "directory/store.h"

namespace te {
namespace {

constexpr size_t kMaxIdleConnections = 4;

constexpr std::string_view kReplaceScript =
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
    "redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1";
constexpr std::string_view kKeepAliveScript =
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
    "return redis.call('PEXPIRE', KEYS[1], ARGV[2])";
constexpr std::string_view kRemoveScript =
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
    "return redis.call('DEL', KEYS[1])";

std::string describe_server(const Connection& connection) {
  std::string text = "redis at " + connection.endpoint_list();
  if (connection.database != 0) text += fmt::format(", database {}", connection.database);
  return text;
}

class RedisStore final : public Store {
 public:
  RedisStore(const Connection& connection, const DirectoryOptions& options)
      : connection_(connection),
        tls_(options.tls),
        credentials_(connection, options.login),
        description_(describe_server(connection)),
        timeout_(options.timeout),
        lease_ms_(std::to_string(std::chrono::milliseconds(options.lease).count())) {}

  std::string describe() const override { return description_; }
  Status check() override { return get(std::string(kKeyPrefix)).status(); }
  Result<std::optional<std::string>> get(const std::string& key) override;
  Result<bool> create(const std::string& key, const std::string& value) override;
  Result<bool> replace(const std::string& key, const std::string& expected,
                       const std::string& value) override {
    return yes_or_no({"EVAL", kReplaceScript, "1", key, expected, value, lease_ms_});
  }
  Result<bool> keep_alive(const std::string& key, const std::string& value) override {
    return yes_or_no({"EVAL", kKeepAliveScript, "1", key, value, lease_ms_});
  }
  Result<bool> remove(const std::string& key, const std::string& expected) override {
    return yes_or_no({"EVAL", kRemoveScript, "1", key, expected});
  }
  std::string local_address() const override { return server_.local_address(); }

 private:
  using Connections = std::vector<std::unique_ptr<RedisConnection>>;

  Result<RedisReply> run(const std::vector<std::string_view>& words) TE_EXCLUDES(mutex_);
  Result<RedisReply> run_fresh(const std::vector<std::string_view>& words, int64_t deadline_ns);
  Result<bool> yes_or_no(const std::vector<std::string_view>& words);
  std::unique_ptr<RedisConnection> take_idle() TE_EXCLUDES(mutex_);
  void give_back(std::unique_ptr<RedisConnection> connection) TE_EXCLUDES(mutex_);
  Connections take_all_idle() TE_EXCLUDES(mutex_);

  const Connection connection_;
  const DirectoryTls tls_;
  const Credentials credentials_;
  const std::string description_;
  const std::chrono::milliseconds timeout_;
  const std::string lease_ms_;
  LastServer server_;
  std::atomic<bool> known_{false};  // redis answered once

  Mutex mutex_;  // never held across a call
  Connections idle_ TE_GUARDED_BY(mutex_);
};

std::unique_ptr<RedisConnection> RedisStore::take_idle() {
  MutexLock lock(mutex_);
  if (idle_.empty()) return nullptr;
  std::unique_ptr<RedisConnection> connection = std::move(idle_.back());
  idle_.pop_back();
  return connection;
}

void RedisStore::give_back(std::unique_ptr<RedisConnection> connection) {
  if (connection->broken()) return;
  MutexLock lock(mutex_);
  if (idle_.size() < kMaxIdleConnections) idle_.push_back(std::move(connection));
}

RedisStore::Connections RedisStore::take_all_idle() {
  MutexLock lock(mutex_);
  return std::exchange(idle_, {});
}

Result<RedisReply> RedisStore::run_fresh(const std::vector<std::string_view>& words,
                                         int64_t deadline_ns) {
  Result<std::unique_ptr<RedisConnection>> opened = RedisConnection::open(
      connection_, tls_, credentials_, known_.load(std::memory_order_relaxed), deadline_ns);
  if (!opened.ok()) return opened.status();
  std::unique_ptr<RedisConnection> connection = opened.take();
  Result<RedisReply> reply = connection->command(words, deadline_ns);
  if (!connection->broken()) {
    known_.store(true, std::memory_order_relaxed);
    server_.set(connection->server());
  }
  give_back(std::move(connection));
  return reply;
}

Result<RedisReply> RedisStore::run(const std::vector<std::string_view>& words) {
  const int64_t deadline_ns = deadline_after_ms(now_ns(), timeout_.count());
  if (std::unique_ptr<RedisConnection> kept = take_idle()) {
    Result<RedisReply> reply = kept->command(words, deadline_ns);
    const bool lost = kept->broken();
    give_back(std::move(kept));
    if (!lost) return reply.ok() ? reply : reply.status().with_context(describe());
    // The server closed what it kept open for us: after a restart that is so for all of them.
    take_all_idle();
  }
  Result<RedisReply> reply = run_fresh(words, deadline_ns);
  if (!reply.ok()) return reply.status().with_context(describe());
  return reply;
}

Result<bool> RedisStore::yes_or_no(const std::vector<std::string_view>& words) {
  const Result<RedisReply> reply = run(words);
  if (!reply.ok()) return reply.status();
  return reply->number == 1;
}

Result<std::optional<std::string>> RedisStore::get(const std::string& key) {
  Result<RedisReply> reply = run({"GET", key});
  if (!reply.ok()) return reply.status();
  if (reply->nil) return std::optional<std::string>();
  return std::optional<std::string>(std::move(reply->text));
}

Result<bool> RedisStore::create(const std::string& key, const std::string& value) {
  const Result<RedisReply> reply = run({"SET", key, value, "NX", "PX", lease_ms_});
  if (!reply.ok()) return reply.status();
  return !reply->nil;
}

}  // namespace

std::unique_ptr<Store> make_redis_store(const Connection& connection,
                                        const DirectoryOptions& options) {
  return std::make_unique<RedisStore>(connection, options);
}

}  // namespace te
