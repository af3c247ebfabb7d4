#include "backends.h"

#include <thread>

#include "authority.h"
#include "base/log.h"
#include "directory/base64.h"
#include "directory/http_client.h"
#include "directory/record.h"
#include "metadata_server.h"

namespace te::test {
namespace {

class HttpBackend : public Backend {
 public:
  Status start() override {
    tool::MetadataServerOptions options = server_options();
    options.host = "127.0.0.1";
    options.port = port_;
    server_ = std::make_unique<tool::MetadataServer>(options);
    const Result<uint16_t> port = server_->start();
    if (port.ok()) port_ = *port;
    return port.status();
  }
  void stop() override { server_.reset(); }
  Status restart_empty() override {
    stop();
    return start();
  }
  std::string url() const override { return "http://" + endpoint() + "/metadata"; }
  std::string endpoint() const override { return "127.0.0.1:" + std::to_string(port_); }
  bool has_leases() const override { return false; }

 protected:
  virtual tool::MetadataServerOptions server_options() const { return {}; }

 private:
  std::unique_ptr<tool::MetadataServer> server_;
  uint16_t port_ = 0;
};

template <typename Server>
class ProcessBackend : public Backend {
 public:
  template <typename... Args>
  explicit ProcessBackend(Args... args) : server_(args...) {}
  std::string missing() const override { return server_.available() ? "" : server_.program(); }
  Status start() override { return server_.start(); }
  void stop() override { server_.stop(); }
  Status restart_empty() override { return server_.restart_empty(); }
  Status restart() override { return server_.restart(); }
  std::string url() const override { return server_.url(); }
  std::string endpoint() const override { return server_.endpoint(); }

 private:
  Server server_;
};

ServerTls server_tls(const Identity& identity) {
  return {identity.authority->ca(), identity.own.cert, identity.own.key};
}

class HttpTlsBackend final : public HttpBackend {
 public:
  explicit HttpTlsBackend(Identity identity) : identity_(std::move(identity)) {}
  std::string url() const override { return "https://" + endpoint() + "/metadata"; }
  void secure(DirectoryOptions& options) override {
    options.tls = tls_of(*identity_.authority);
    options.login.directory_token_file = tokens_;
  }

 protected:
  tool::MetadataServerOptions server_options() const override {
    tool::MetadataServerOptions options;
    options.tls_cert = identity_.own.cert;
    options.tls_key = identity_.own.key;
    options.tls_ca = identity_.authority->ca();
    options.token_file = tokens_;
    options.protect_reads = true;
    return options;
  }

 private:
  const Identity identity_;
  const std::string tokens_ =
      identity_.authority->write("tokens", std::string(kBackendSecret) + "\n");
};

class RedisTlsBackend final : public ProcessBackend<RedisServer> {
 public:
  explicit RedisTlsBackend(const Identity& identity)
      : ProcessBackend(kBackendSecret, server_tls(identity)), authority_(identity.authority) {}
  void secure(DirectoryOptions& options) override {
    options.tls = tls_of(*authority_);
    options.login.directory_password_file = authority_->write("password", kBackendSecret);
  }

 private:
  const std::shared_ptr<Authority> authority_;
};

class EtcdTlsBackend : public ProcessBackend<EtcdServer> {
 public:
  explicit EtcdTlsBackend(const Identity& identity)
      : ProcessBackend(uint16_t{0}, server_tls(identity)), authority_(identity.authority) {}
  void secure(DirectoryOptions& options) override { options.tls = tls_of(*authority_); }

 protected:
  const std::shared_ptr<Authority> authority_;
};

// With a user that may use the prefix of segment names, and nothing else.
class EtcdUserBackend final : public EtcdTlsBackend {
 public:
  using EtcdTlsBackend::EtcdTlsBackend;
  Status start() override {
    TE_RETURN_IF_ERROR(EtcdTlsBackend::start());
    return add_user();
  }
  Status restart_empty() override {
    TE_RETURN_IF_ERROR(EtcdTlsBackend::restart_empty());
    return add_user();
  }
  void secure(DirectoryOptions& options) override {
    EtcdTlsBackend::secure(options);
    options.login.directory_user = "engine";
    options.login.directory_password_file = authority_->write("password", kBackendSecret);
  }

 private:
  Status add_user() {
    std::string end(kKeyPrefix);
    ++end.back();
    const std::string range = fmt::format(R"("key":"{}","range_end":"{}")",
                                          base64_encode(kKeyPrefix), base64_encode(end));
    const std::pair<const char*, std::string> calls[] = {
        {"user/add", R"({"name":"root","password":"root"})"},
        {"role/add", R"({"name":"root"})"},
        {"user/grant", R"({"user":"root","role":"root"})"},
        {"user/add", fmt::format(R"({{"name":"engine","password":"{}"}})", kBackendSecret)},
        {"role/add", R"({"name":"engines"})"},
        {"role/grant", R"({"name":"engines","perm":{"permType":"READWRITE",)" + range + "}}"},
        {"user/grant", R"({"user":"engine","role":"engines"})"},
        {"auth/enable", "{}"}};
    HttpClient client(tls_of(*authority_));
    for (const auto& [path, body] : calls) {
      const std::string name(path);
      const std::string url =
          "https://" + endpoint() + "/v3/" + (name == "auth/enable" ? name : "auth/" + name);
      const Result<HttpResponse> done =
          client.perform({"POST", url, body, {}, std::chrono::seconds(10)});
      if (!done.ok()) return done.status();
      if (done->status != 200) return error(Code::kProtocol, "{}: {}", name, done->body);
    }
    return {};
  }
};

class EtcdFailoverBackend final : public ProcessBackend<EtcdServer> {
 public:
  std::string url() const override { return "etcd://" + dead_ + "," + endpoint(); }

 private:
  const std::string dead_ = "127.0.0.1:" + std::to_string(free_port());
};

}  // namespace

std::unique_ptr<Backend> make_http_backend() { return std::make_unique<HttpBackend>(); }
std::unique_ptr<Backend> make_redis_backend(const std::string& password) {
  return std::make_unique<ProcessBackend<RedisServer>>(password);
}
std::unique_ptr<Backend> make_etcd_backend() {
  return std::make_unique<ProcessBackend<EtcdServer>>();
}
std::unique_ptr<Backend> make_etcd_failover_backend() {
  return std::make_unique<EtcdFailoverBackend>();
}

std::unique_ptr<Backend> make_http_tls_backend(const Identity& identity) {
  return std::make_unique<HttpTlsBackend>(identity);
}
std::unique_ptr<Backend> make_redis_tls_backend(const Identity& identity) {
  return std::make_unique<RedisTlsBackend>(identity);
}
std::unique_ptr<Backend> make_etcd_tls_backend(const Identity& identity) {
  return std::make_unique<EtcdTlsBackend>(identity);
}
std::unique_ptr<Backend> make_etcd_user_backend(const Identity& identity) {
  return std::make_unique<EtcdUserBackend>(identity);
}

std::unique_ptr<Store> open_store(const std::string& url, const DirectoryOptions& options) {
  const Result<Connection> connection = parse_connection(url);
  if (!connection.ok()) return nullptr;
  switch (connection->kind) {
    case DirectoryKind::kEtcd:
      return make_etcd_store(*connection, options);
    case DirectoryKind::kRedis:
      return make_redis_store(*connection, options);
    case DirectoryKind::kHttp:
      return make_http_store(*connection, options);
    case DirectoryKind::kP2p:
      break;
  }
  return nullptr;
}

bool eventually(const std::function<bool()>& holds) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(15);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

LogCapture::LogCapture(LogLevel level) {
  set_log_level(level);
  set_log_hook([this](LogLevel at, std::string_view text) {
    MutexLock lock(mutex_);
    lines_.push_back({at, std::string(text)});
  });
}

LogCapture::~LogCapture() {
  set_log_hook(nullptr);
  set_log_level(LogLevel::kWarning);
}

size_t LogCapture::count(LogLevel level, const std::string& part) const {
  MutexLock lock(mutex_);
  size_t found = 0;
  for (const Line& line : lines_) {
    found += line.level == level && line.text.find(part) != std::string::npos;
  }
  return found;
}

std::string LogCapture::all() const {
  MutexLock lock(mutex_);
  std::string text;
  for (const Line& line : lines_) text += line.text + "\n";
  return text;
}

}  // namespace te::test
