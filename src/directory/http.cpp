// The store over a plain HTTP metadata server: GET, PUT and DELETE of <url>?key=.
//
// The protocol knows neither leases nor comparisons: entries stay until they are deleted, and what
// must be compared is read first and written then. Only creating is atomic, where the server
// honours "If-None-Match". Threads: any.
#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "directory/credentials.h"
#include "directory/http_client.h"
#include "directory/last_server.h"
#include "directory/record.h"
#include "directory/store.h"

namespace te {
namespace {

// Written and deleted by check(): a server's "not found" to a GET does not tell a missing key from
// a wrong path.
constexpr std::string_view kProbeKey = "transfer_engine/probe";

// The key was written with another token.
constexpr long kNotOwner = 409;

bool is_success(const HttpResponse& response) {
  return response.status >= 200 && response.status < 300;
}

// A server that repeats the request in its answer must not bring the secret into a log.
void hide(const Secret& authorization, std::string& body) {
  const std::string_view header = authorization.view();
  const std::string_view secret = header.substr(std::min(header.find(' ') + 1, header.size()));
  if (!secret.empty() && body.find(secret) != std::string::npos) cleanse(body);
}

class HttpStore final : public Store {
 public:
  HttpStore(const Connection& connection, const DirectoryOptions& options)
      : url_(http_origin(connection.endpoints.front(), connection.tls) + connection.path),
        timeout_(options.timeout),
        credentials_(connection, options.login),
        client_(options.tls) {}

  std::string describe() const override { return "the HTTP metadata server at " + url_; }
  Status check() override;
  Result<std::optional<std::string>> get(const std::string& key) override {
    return get(key, deadline());
  }
  Result<bool> create(const std::string& key, const std::string& value) override;
  Result<bool> replace(const std::string& key, const std::string& expected,
                       const std::string& value) override;
  Result<bool> keep_alive(const std::string& key, const std::string& value) override;
  Result<bool> remove(const std::string& key, const std::string& expected) override;
  std::string local_address() const override { return server_.local_address(); }

 private:
  int64_t deadline() const { return deadline_after_ms(now_ns(), timeout_.count()); }
  Result<HttpResponse> request(std::string_view method, std::string_view key, std::string_view body,
                               int64_t deadline_ns, std::vector<std::string> headers = {});
  Status refused(std::string_view method, const HttpResponse& response) const;
  Result<std::optional<std::string>> get(const std::string& key, int64_t deadline_ns);
  Result<bool> holds(const std::string& key, const std::string& value, int64_t deadline_ns);
  Status put(std::string_view key, std::string_view value, int64_t deadline_ns);

  const std::string url_;
  const std::chrono::milliseconds timeout_;
  const Credentials credentials_;
  HttpClient client_;
  LastServer server_;
};

Result<HttpResponse> HttpStore::request(std::string_view method, std::string_view key,
                                        std::string_view body, int64_t deadline_ns,
                                        std::vector<std::string> headers) {
  Result<Secret> authorization = credentials_.authorization();
  if (!authorization.ok()) return authorization.status();
  HttpRequest request;
  request.authorization = authorization.take();
  request.method = method;
  request.url = url_ + "?key=" + percent_encode(key);
  request.body = body;
  request.headers = std::move(headers);
  request.headers.emplace_back("Content-Type: application/json");
  request.timeout = std::chrono::milliseconds((deadline_ns - now_ns()) / kNsPerMs);
  Result<HttpResponse> response = client_.perform(request);
  if (!response.ok()) return response.status().with_context(describe());
  hide(request.authorization, response->body);
  server_.set(response->server);
  return response;
}

Status HttpStore::refused(std::string_view method, const HttpResponse& response) const {
  const std::string answer =
      fmt::format("{}: {} was answered with HTTP status {} ('{}')", describe(), method,
                  response.status, printable(response.body));
  if (response.status == 401 || response.status == 403 || response.status == kNotOwner) {
    return Status(Code::kPermission, answer);
  }
  if (response.status == 413 || response.status == 507) return Status(Code::kResource, answer);
  if (response.status == 429 || response.status >= 500) return Status(Code::kUnavailable, answer);
  if (response.status >= 300 && response.status < 400) {
    return Status(Code::kProtocol, answer + "; redirects are not followed: give the final address");
  }
  return Status(Code::kProtocol, answer + "; it is no metadata server, or its path is another one");
}

Status HttpStore::put(std::string_view key, std::string_view value, int64_t deadline_ns) {
  const Result<HttpResponse> response = request("PUT", key, value, deadline_ns);
  if (!response.ok()) return response.status();
  if (!is_success(*response)) return refused("PUT", *response);
  return {};
}

Result<std::optional<std::string>> HttpStore::get(const std::string& key, int64_t deadline_ns) {
  Result<HttpResponse> response = request("GET", key, {}, deadline_ns);
  if (!response.ok()) return response.status();
  if (response->status == 404) return std::optional<std::string>();
  if (response->status != 200) return refused("GET", *response);
  return std::optional<std::string>(std::move(response->body));
}

Result<bool> HttpStore::holds(const std::string& key, const std::string& value,
                              int64_t deadline_ns) {
  const Result<std::optional<std::string>> held = get(key, deadline_ns);
  if (!held.ok()) return held.status();
  return held->has_value() && **held == value;
}

Status HttpStore::check() {
  const int64_t deadline_ns = deadline();
  // Another engine that starts now uses the same key: it may own it, or have deleted it.
  const Result<HttpResponse> written = request("PUT", kProbeKey, "{}", deadline_ns);
  if (!written.ok()) return written.status();
  if (written->status == kNotOwner) return {};
  if (!is_success(*written)) return refused("PUT", *written);
  const Result<HttpResponse> gone = request("DELETE", kProbeKey, {}, deadline_ns);
  if (!gone.ok()) return gone.status();
  if (gone->status == 404 || gone->status == kNotOwner || is_success(*gone)) return {};
  return refused("DELETE", *gone);
}

Result<bool> HttpStore::create(const std::string& key, const std::string& value) {
  const int64_t deadline_ns = deadline();
  const Result<std::optional<std::string>> held = get(key, deadline_ns);
  if (!held.ok()) return held.status();
  if (held->has_value()) return false;
  const Result<HttpResponse> response =
      request("PUT", key, value, deadline_ns, {"If-None-Match: *"});
  if (!response.ok()) return response.status();
  if (response->status == 412) return false;
  if (!is_success(*response)) return refused("PUT", *response);
  return true;
}

Result<bool> HttpStore::replace(const std::string& key, const std::string& expected,
                                const std::string& value) {
  const int64_t deadline_ns = deadline();
  const Result<bool> expected_there = holds(key, expected, deadline_ns);
  if (!expected_there.ok() || !*expected_there) return expected_there;
  TE_RETURN_IF_ERROR(put(key, value, deadline_ns));
  return true;
}

Result<bool> HttpStore::keep_alive(const std::string& key, const std::string& value) {
  return holds(key, value, deadline());
}

Result<bool> HttpStore::remove(const std::string& key, const std::string& expected) {
  const int64_t deadline_ns = deadline();
  const Result<bool> expected_there = holds(key, expected, deadline_ns);
  if (!expected_there.ok() || !*expected_there) return expected_there;
  const Result<HttpResponse> response = request("DELETE", key, {}, deadline_ns);
  if (!response.ok()) return response.status();
  if (response->status == 404) return false;
  if (!is_success(*response)) return refused("DELETE", *response);
  return true;
}

}  // namespace

std::unique_ptr<Store> make_http_store(const Connection& connection,
                                       const DirectoryOptions& options) {
  return std::make_unique<HttpStore>(connection, options);
}

}  // namespace te
