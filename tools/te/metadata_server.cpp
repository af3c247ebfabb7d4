#include "metadata_server.h"

#include <fmt/core.h>
#include <httplib.h>
#include <poll.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <utility>

#include "host_info.h"
#include "metadata_listener.h"
#include "metadata_tokens.h"
#include "stop_signals.h"

namespace te::tool {
namespace {

constexpr int kLookMs = 500;  // at whether it still serves
constexpr size_t kMaxKeyBytes = 2048;
constexpr size_t kMaxListedKeys = 1000;
constexpr size_t kThreads = 32;
constexpr int kBacklog = 1024;
constexpr time_t kIoTimeoutS = 5;
constexpr const char* kOtherOwner = "the key was written with another token";

}  // namespace

// The values, and how they may change.
class MetadataEntries {
 public:
  explicit MetadataEntries(size_t max_entries) : max_entries_(max_entries) {}

  enum class Stored { kNew, kReplaced, kExists, kFull, kNotOwner };
  Stored put(const std::string& key, const std::string& value, bool only_new, Tokens::Owner owner) {
    std::lock_guard lock(mutex_);
    if (const auto it = entries_.find(key); it != entries_.end()) {
      if (only_new) return Stored::kExists;
      if (it->second.owner != owner) return Stored::kNotOwner;
      value_bytes_ += value.size() - it->second.value.size();
      it->second.value = value;
      return Stored::kReplaced;
    }
    if (entries_.size() >= max_entries_) return Stored::kFull;
    entries_.emplace(key, Entry{value, owner});
    value_bytes_ += value.size();
    return Stored::kNew;
  }

  std::optional<std::string> get(const std::string& key) const {
    std::lock_guard lock(mutex_);
    const auto it = entries_.find(key);
    return it == entries_.end() ? std::nullopt : std::optional(it->second.value);
  }

  enum class Erased { kYes, kMissing, kNotOwner };
  Erased erase(const std::string& key, Tokens::Owner owner) {
    std::lock_guard lock(mutex_);
    const auto it = entries_.find(key);
    if (it == entries_.end()) return Erased::kMissing;
    if (it->second.owner != owner) return Erased::kNotOwner;
    value_bytes_ -= it->second.value.size();
    entries_.erase(it);
    return Erased::kYes;
  }

  nlohmann::json summary() const {
    std::lock_guard lock(mutex_);
    nlohmann::json keys = nlohmann::json::array();
    for (auto it = entries_.begin(); it != entries_.end() && keys.size() < kMaxListedKeys; ++it) {
      keys.push_back(it->first);
    }
    return {{"entries", entries_.size()},
            {"value_bytes", value_bytes_},
            {"max_entries", max_entries_},
            {"keys", std::move(keys)},
            {"all_keys_listed", entries_.size() <= kMaxListedKeys}};
  }

 private:
  struct Entry {
    std::string value;
    Tokens::Owner owner;
  };

  const size_t max_entries_;
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;
  size_t value_bytes_ = 0;
};

namespace {

void reply_text(httplib::Response& response, int status, const std::string& text) {
  response.status = status;
  response.set_content(text + "\n", "text/plain; charset=utf-8");
}

std::string url_host(const std::string& host) {
  return host.find(':') == std::string::npos ? host : "[" + host + "]";
}

// Where other machines reach this one, as far as its interfaces tell.
std::string reachable_address() {
  for (const HostAddress& each : host_addresses()) {
    if (each.up && !each.loopback && each.address.find(':') == std::string::npos) {
      return each.address;
    }
  }
  return "127.0.0.1";
}

int report_failure(const std::string& message) {
  std::fprintf(stderr, "te: %s\n", message.c_str());
  return 1;
}

bool is_read(const httplib::Request& request) {
  return request.method == "GET" || request.method == "HEAD";
}

// Whether others can hear what is sent to `host`.
bool is_on_network(const std::string& host) {
  return !host.starts_with("127.") && host != "::1" && host != "localhost";
}

}  // namespace

class MetadataServer::Impl {
 public:
  explicit Impl(const MetadataServerOptions& options)
      : options_(options), entries_(options.max_entries) {}

  Result<uint16_t> start();
  bool serving() const { return !ended_; }
  void stop() {
    listener_->stop();
    thread_.join();
  }

 private:
  Status prepare();
  void add_routes();
  enum class Access { kHealth, kRead, kWrite };
  // Answers 401 or 403 unless the token and the certificate came that this needs.
  bool admitted(const httplib::Request& request, httplib::Response& response, Access access) const;
  Tokens::Owner owner_of(const httplib::Request& request) const {
    return tokens_.owner_of(request.get_header_value("Authorization"));
  }
  void handle_get(const httplib::Request& request, httplib::Response& response);
  void handle_put(const httplib::Request& request, httplib::Response& response);
  void handle_delete(const httplib::Request& request, httplib::Response& response);
  bool valid_key(const httplib::Request& request, httplib::Response& response) const;
  std::string page() const;

  const MetadataServerOptions& options_;
  Tokens tokens_;
  MetadataEntries entries_;
  std::unique_ptr<httplib::Server> listener_;
  int socket_ = -1;  // that listens
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

Status MetadataServer::Impl::prepare() {
  if (!options_.token_file.empty()) {
    Result<Tokens> tokens = Tokens::load(options_.token_file);
    if (!tokens.ok()) return tokens.status();
    tokens_ = tokens.take();
  } else if (options_.protect_reads) {
    return Status(Code::kInvalidArgument, "--protect-reads needs --token-file");
  }
  Result<std::unique_ptr<httplib::Server>> listener = make_listener(options_);
  if (!listener.ok()) return listener.status();
  listener_ = listener.take();
  // Without SO_REUSEPORT, which would let a second server take the same port unnoticed.
  listener_->set_socket_options([this](socket_t socket) {
    const int on = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    socket_ = socket;
  });
  listener_->new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  listener_->set_keep_alive_max_count(1);  // an idle client must not hold one of the threads
  listener_->set_keep_alive_timeout(kIoTimeoutS);
  listener_->set_read_timeout(kIoTimeoutS);
  listener_->set_write_timeout(kIoTimeoutS);
  listener_->set_payload_max_length(options_.max_value_bytes);
  add_routes();
  return {};
}

Result<uint16_t> MetadataServer::Impl::start() {
  TE_RETURN_IF_ERROR(prepare());
  errno = 0;
  int port = options_.port;
  const bool bound = port == 0 ? (port = listener_->bind_to_any_port(options_.host)) > 0
                               : listener_->bind_to_port(options_.host, port);
  if (!bound || ::listen(socket_, kBacklog) != 0) {
    const int reason = errno;
    if (reason == EADDRINUSE) {
      return Status(Code::kAlreadyExists,
                    fmt::format("port {} of {} is in use: choose another, or 0 for any free one",
                                options_.port, options_.host));
    }
    return Status(
        Code::kResource,
        fmt::format("cannot listen on {} port {}: {}", options_.host, options_.port,
                    reason != 0 ? std::strerror(reason) : "not an address of this machine"));
  }
  thread_ = std::thread([this] {
    listener_->listen_after_bind();
    ended_ = true;
  });
  // stop() is only heard by a listener that runs.
  while (!listener_->is_running() && !ended_) std::this_thread::yield();
  return static_cast<uint16_t>(port);
}

void MetadataServer::Impl::add_routes() {
  const auto on_path = [this](auto handler) {
    return [this, handler](const httplib::Request& request, httplib::Response& response) {
      if (request.path != options_.path) {
        return reply_text(response, 404,
                          fmt::format("no such page; the metadata are at {}", options_.path));
      }
      if (admitted(request, response, is_read(request) ? Access::kRead : Access::kWrite))
        (this->*handler)(request, response);
    };
  };
  const auto refuse = [](const httplib::Request&, httplib::Response& response) {
    response.set_header("Allow", "GET, PUT, DELETE");
    reply_text(response, 405, "use GET, PUT or DELETE");
  };
  listener_->Get(".*", [this, serve = on_path(&Impl::handle_get)](const httplib::Request& request,
                                                                  httplib::Response& response) {
    if (request.path == "/health") {
      if (admitted(request, response, Access::kHealth)) reply_text(response, 200, "ok");
      return;
    }
    if (request.path == "/" && !request.has_param("key")) {
      if (admitted(request, response, Access::kRead)) reply_text(response, 200, page());
      return;
    }
    serve(request, response);
  });
  listener_->Put(".*", on_path(&Impl::handle_put));
  listener_->Delete(".*", on_path(&Impl::handle_delete));
  listener_->Post(".*", refuse);
  listener_->Patch(".*", refuse);
}

bool MetadataServer::Impl::admitted(const httplib::Request& request, httplib::Response& response,
                                    Access access) const {
  if (const std::string problem = certificate_problem(options_, request); !problem.empty()) {
    reply_text(response, 403,
               fmt::format("a trusted certificate is needed, see directory_tls_cert: {}", problem));
    return false;
  }
  const bool needs_token =
      access == Access::kWrite || (access == Access::kRead && options_.protect_reads);
  if (tokens_.empty() || !needs_token || owner_of(request) != Tokens::kNobody) return true;
  response.set_header("WWW-Authenticate", "Bearer");
  reply_text(response, 401,
             request.has_header("Authorization")
                 ? "this token is not known here"
                 : "a token is needed ('Authorization: Bearer TOKEN'), see directory_token_file");
  return false;
}

bool MetadataServer::Impl::valid_key(const httplib::Request& request,
                                     httplib::Response& response) const {
  const std::string key = request.get_param_value("key");
  if (key.empty()) {
    reply_text(response, 400, fmt::format("the key is missing: use {}?key=KEY", options_.path));
    return false;
  }
  if (key.size() > kMaxKeyBytes) {
    reply_text(response, 413, fmt::format("the key is longer than {} bytes", kMaxKeyBytes));
    return false;
  }
  return true;
}

void MetadataServer::Impl::handle_get(const httplib::Request& request,
                                      httplib::Response& response) {
  if (!request.has_param("key")) {
    response.set_content(
        entries_.summary().dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n",
        "application/json");
    return;
  }
  if (!valid_key(request, response)) return;
  const std::optional<std::string> value = entries_.get(request.get_param_value("key"));
  if (!value) return reply_text(response, 404, "no such key");
  response.set_content(*value, "application/json");
}

void MetadataServer::Impl::handle_put(const httplib::Request& request,
                                      httplib::Response& response) {
  if (!valid_key(request, response)) return;
  if (request.body.size() > options_.max_value_bytes) {
    return reply_text(response, 413,
                      fmt::format("the value is longer than {} bytes", options_.max_value_bytes));
  }
  const bool only_new = request.get_header_value("If-None-Match") == "*";
  switch (entries_.put(request.get_param_value("key"), request.body, only_new, owner_of(request))) {
    case MetadataEntries::Stored::kNew:
      return reply_text(response, 201, "stored");
    case MetadataEntries::Stored::kReplaced:
      return reply_text(response, 200, "replaced");
    case MetadataEntries::Stored::kExists:
      return reply_text(response, 412, "the key exists");
    case MetadataEntries::Stored::kNotOwner:
      return reply_text(response, 409, kOtherOwner);
    case MetadataEntries::Stored::kFull:
      return reply_text(response, 507,
                        fmt::format("full: {} entries are the limit", options_.max_entries));
  }
}

void MetadataServer::Impl::handle_delete(const httplib::Request& request,
                                         httplib::Response& response) {
  if (!valid_key(request, response)) return;
  switch (entries_.erase(request.get_param_value("key"), owner_of(request))) {
    case MetadataEntries::Erased::kYes:
      return reply_text(response, 200, "deleted");
    case MetadataEntries::Erased::kMissing:
      return reply_text(response, 404, "no such key");
    case MetadataEntries::Erased::kNotOwner:
      return reply_text(response, 409, kOtherOwner);
  }
}

std::string MetadataServer::Impl::page() const {
  const nlohmann::json summary = entries_.summary();
  std::string text = fmt::format(
      "Transfer Engine metadata server\n\n"
      "{} of at most {} entries, {} bytes of values\n"
      "values: {}?key=KEY    list as JSON: {}    health: /health\n\n",
      summary["entries"].get<size_t>(), options_.max_entries, summary["value_bytes"].get<size_t>(),
      options_.path, options_.path);
  for (const nlohmann::json& key : summary["keys"]) {
    text += key.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
  }
  if (!summary["all_keys_listed"].get<bool>()) text += "...\n";
  return text;
}

MetadataServer::MetadataServer(MetadataServerOptions options) : options_(std::move(options)) {}

MetadataServer::~MetadataServer() { stop(); }

Result<uint16_t> MetadataServer::start() {
  if (impl_ != nullptr) return Status(Code::kInvalidArgument, "the metadata server runs already");
  if (!options_.path.starts_with('/')) {
    return Status(Code::kInvalidArgument,
                  fmt::format("the path '{}' must begin with '/'", options_.path));
  }
  auto impl = std::make_unique<Impl>(options_);
  Result<uint16_t> port = impl->start();
  if (port.ok()) impl_ = std::move(impl);
  return port;
}

bool MetadataServer::serving() const { return impl_ != nullptr && impl_->serving(); }

void MetadataServer::stop() {
  if (impl_ == nullptr) return;
  impl_->stop();
  impl_.reset();
}

int run_metadata_server(const MetadataServerOptions& options) {
  if (stop_signal_fd() < 0) catch_stop_signals();
  MetadataServer server(options);
  const Result<uint16_t> port = server.start();
  if (!port.ok()) return report_failure(port.status().message());
  const bool everywhere = options.host == "0.0.0.0" || options.host == "::";
  const bool tls = !options.tls_cert.empty();
  if (!options.token_file.empty() && !tls && is_on_network(options.host)) {
    std::fputs("te: tokens cross the network unencrypted: give --tls-cert and --tls-key\n", stderr);
  }
  fmt::print("serving metadata at {}://{}:{}{}{}\n", tls ? "https" : "http",
             url_host(everywhere ? reachable_address() : options.host), *port, options.path,
             everywhere ? " and at every other address of this machine" : "");
  if (std::fflush(stdout) != 0) return report_failure("cannot write to the standard output");
  pollfd stop{stop_signal_fd(), POLLIN, 0};
  while (stop_signal() == 0) {
    if (::poll(&stop, 1, kLookMs) < 0 && errno != EINTR) {
      return report_failure("cannot wait for signals");
    }
    // httplib waits for descriptors of its own, and gives up at every other error of accept().
    if (stop_signal() == 0 && !server.serving()) {
      return report_failure("connections cannot be accepted any more; start it again");
    }
  }
  server.stop();
  return 0;
}

}  // namespace te::tool
