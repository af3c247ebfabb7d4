#include "backends.h"

#include <thread>

#include "base/log.h"
#include "metadata_server.h"

namespace te::test {
namespace {

class HttpBackend final : public Backend {
 public:
  Status start() override {
    tool::MetadataServerOptions options;
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
  std::string url() const override { return server_.url(); }
  std::string endpoint() const override { return server_.endpoint(); }

 private:
  Server server_;
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
