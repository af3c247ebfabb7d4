// The store over etcd: its v3 API as JSON over HTTP (etcd 3.4 or later).
//
// All keys of a store hang on one lease, which keep_alive() renews. Calls go to the endpoint that
// answered last, and to the others when it fails. Threads: any.
#include <atomic>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "directory/base64.h"
#include "directory/credentials.h"
#include "directory/http_client.h"
#include "directory/last_server.h"
#include "directory/record.h"
#include "directory/store.h"

namespace te {
namespace {

using Json = nlohmann::json;

// The gateway's numbers of gRPC's errors.
enum GrpcCode : int64_t {
  kGrpcInvalidArgument = 3,
  kGrpcDeadlineExceeded = 4,
  kGrpcNotFound = 5,
  kGrpcPermissionDenied = 7,
  kGrpcResourceExhausted = 8,
  kGrpcFailedPrecondition = 9,
  kGrpcUnavailable = 14,
  kGrpcUnauthenticated = 16,
};

// 64-bit numbers come as texts, small ones also as numbers.
std::optional<int64_t> number_field(const Json& object, const char* name) {
  const auto field = object.find(name);
  if (field == object.end()) return std::nullopt;
  if (field->is_number_integer()) return field->get<int64_t>();
  if (!field->is_string()) return std::nullopt;
  const auto& text = field->get_ref<const std::string&>();
  int64_t value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::string> text_field(const Json& object, const char* name) {
  const auto field = object.find(name);
  if (field == object.end() || !field->is_string()) return std::nullopt;
  return field->get<std::string>();
}

// What an answer other than 200 means. Streams wrap it in an "error" object.
Status error_of(const Json& answer, long http_status) {
  const auto nested = answer.find("error");
  const bool is_stream = nested != answer.end() && nested->is_object();
  const Json& body = is_stream ? *nested : answer;
  std::optional<std::string> text = text_field(body, "message");
  if (!text) text = text_field(body, "error");
  const std::optional<int64_t> code = number_field(body, is_stream ? "grpc_code" : "code");
  if (!text || !code) {
    return error(Code::kProtocol, "answered HTTP status {} without an etcd error", http_status);
  }
  const std::string message = printable(*text);
  switch (*code) {
    case kGrpcNotFound:
      return Status(Code::kNotFound, message);
    case kGrpcPermissionDenied:
    case kGrpcUnauthenticated:
      return Status(Code::kPermission, message);
    case kGrpcFailedPrecondition:
      if (text->find("not enabled") == std::string::npos) return Status(Code::kProtocol, message);
      return error(Code::kPermission, "{}: it wants no directory_user", message);
    case kGrpcInvalidArgument:
      if (text->find("user name is empty") != std::string::npos) {
        return error(Code::kPermission, "{}: set directory_user and directory_password_file",
                     message);
      }
      if (text->find("authentication failed") != std::string::npos) {
        return error(Code::kPermission, "it refused directory_user and its password ({})", message);
      }
      return Status(Code::kProtocol, message);
    case kGrpcDeadlineExceeded:
    case kGrpcResourceExhausted:
    case kGrpcUnavailable:
      return Status(Code::kUnavailable, message);
    default:
      return error(Code::kProtocol, "{} (gRPC code {})", message, *code);
  }
}

// etcd forgets tokens with time, when it restarts, and when users or roles change.
bool is_old_token(const Status& status) {
  return status.message().find("invalid auth token") != std::string_view::npos ||
         status.message().find("auth store is old") != std::string_view::npos;
}

// A server that repeats the request in its answer must not bring the password into a log.
bool repeats(const Status& status, const Secret& password) {
  const std::string_view text = status.message();
  return text.find(password.view()) != std::string_view::npos ||
         text.find("password\"") != std::string_view::npos ||
         text.find("password\\\"") != std::string_view::npos;
}

Json compare_value(const std::string& key, const std::string& value) {
  return {{"key", base64_encode(key)},
          {"target", "VALUE"},
          {"result", "EQUAL"},
          {"value", base64_encode(value)}};
}

struct Entry {
  std::string value;
  int64_t lease = 0;
};

class EtcdStore final : public Store {
 public:
  EtcdStore(const Connection& connection, const DirectoryOptions& options)
      : endpoints_(connection.endpoints),
        tls_(connection.tls),
        description_("etcd at " + connection.endpoint_list()),
        timeout_(options.timeout),
        lease_ttl_s_(options.lease.count()),
        credentials_(connection, options.login),
        client_(options.tls) {}

  std::string describe() const override { return description_; }
  Status check() override;
  Result<std::optional<std::string>> get(const std::string& key) override;
  Result<bool> create(const std::string& key, const std::string& value) override;
  Result<bool> replace(const std::string& key, const std::string& expected,
                       const std::string& value) override;
  Result<bool> keep_alive(const std::string& key, const std::string& value) override;
  Result<bool> remove(const std::string& key, const std::string& expected) override;
  std::string local_address() const override { return server_.local_address(); }

 private:
  int64_t deadline() const { return deadline_after_ms(now_ns(), timeout_.count()); }
  Result<Json> call(std::string_view path, const Json* request, int64_t deadline_ns);
  Result<Json> call_one(const HostPort& endpoint, std::string_view path, const std::string& body,
                        int64_t deadline_ns);
  Result<Json> ask(const HostPort& endpoint, std::string_view path, const std::string& body,
                   const Secret& token, int64_t deadline_ns);
  Result<Secret> log_in(const HostPort& endpoint, int64_t deadline_ns) TE_EXCLUDES(mutex_);
  Secret token() TE_EXCLUDES(mutex_);
  Result<std::optional<Entry>> range(const std::string& key, int64_t deadline_ns);
  Result<bool> put_if(Json compare, const std::string& key, const std::string& value,
                      int64_t deadline_ns);
  Result<int64_t> live_lease(int64_t deadline_ns) TE_EXCLUDES(mutex_);
  Result<bool> renew(int64_t lease, int64_t deadline_ns);
  Result<int64_t> grant(int64_t deadline_ns);

  const std::vector<HostPort> endpoints_;
  const bool tls_;
  const std::string description_;
  const std::chrono::milliseconds timeout_;
  const int64_t lease_ttl_s_;
  const Credentials credentials_;
  HttpClient client_;
  LastServer server_;
  std::atomic<size_t> current_{0};  // the endpoint that answered last

  Mutex mutex_;  // never held across a call
  int64_t lease_ TE_GUARDED_BY(mutex_) = 0;
  Secret token_ TE_GUARDED_BY(mutex_);  // of the last login
};

Secret EtcdStore::token() {
  MutexLock lock(mutex_);
  return token_;
}

Result<Secret> EtcdStore::log_in(const HostPort& endpoint, int64_t deadline_ns) {
  const Result<Secret> password = credentials_.password();
  if (!password.ok()) return password;
  Json request = {{"name", credentials_.user()}, {"password", password->view()}};
  std::string body = request.dump(-1, ' ', false, Json::error_handler_t::replace);
  cleanse(request["password"].get_ref<std::string&>());
  Result<Json> answer = ask(endpoint, "/v3/auth/authenticate", body, {}, deadline_ns);
  cleanse(body);
  if (repeats(answer.status(), *password)) {
    return Status(Code::kProtocol, "what answers a login there is not etcd 3.4 or later");
  }
  if (!answer.ok()) return answer.status();
  const auto token = answer->find("token");
  if (token == answer->end() || !token->is_string()) {
    return Status(Code::kProtocol, "a malformed answer to a login");
  }
  Secret fresh(token->get_ref<const std::string&>());
  cleanse(token->get_ref<std::string&>());
  MutexLock lock(mutex_);
  token_ = fresh;
  return fresh;
}

Result<Json> EtcdStore::call_one(const HostPort& endpoint, std::string_view path,
                                 const std::string& body, int64_t deadline_ns) {
  const bool anonymous = body.empty() || !credentials_.has_password();
  if (anonymous) return ask(endpoint, path, body, {}, deadline_ns);
  if (const Secret kept = token(); !kept.empty()) {
    Result<Json> answer = ask(endpoint, path, body, kept, deadline_ns);
    if (!is_old_token(answer.status())) return answer;
  }
  const Result<Secret> fresh = log_in(endpoint, deadline_ns);
  if (!fresh.ok()) return fresh.status();
  return ask(endpoint, path, body, *fresh, deadline_ns);
}

Result<Json> EtcdStore::ask(const HostPort& endpoint, std::string_view path,
                            const std::string& body, const Secret& token, int64_t deadline_ns) {
  HttpRequest request;
  request.method = body.empty() ? "GET" : "POST";
  request.url = http_origin(endpoint, tls_).append(path);
  request.body = body;
  request.headers = {"Content-Type: application/json"};
  request.timeout = std::chrono::milliseconds((deadline_ns - now_ns()) / kNsPerMs);
  request.authorization = token;
  Result<HttpResponse> response = client_.perform(request);
  if (!response.ok()) return response.status();
  server_.set(response->server);
  // Streams answer one JSON text a line; the first one is the answer to the one request.
  const std::string_view text = response->body;
  Json answer = Json::parse(text.substr(0, text.find('\n')), nullptr, false);
  if (answer.is_discarded() || !answer.is_object()) {
    return error(Code::kProtocol,
                 "what answers there is not etcd 3.4 or later: HTTP status {}, '{}'",
                 response->status, printable(text));
  }
  if (response->status != 200 || answer.contains("error"))
    return error_of(answer, response->status);
  cleanse(response->body);  // of a login
  return answer;
}

Result<Json> EtcdStore::call(std::string_view path, const Json* request, int64_t deadline_ns) {
  const std::string body = request == nullptr ? std::string() : request->dump();
  const size_t count = endpoints_.size();
  const size_t first = current_.load(std::memory_order_relaxed);
  Code code = Code::kUnavailable;
  std::string failures;
  for (size_t i = 0; i < count; ++i) {
    const size_t index = (first + i) % count;
    const HostPort& endpoint = endpoints_[index];
    // What is left is shared out: one dead endpoint must not use up the others' time.
    const int64_t share_ns = (deadline_ns - now_ns()) / static_cast<int64_t>(count - i);
    Result<Json> answer = share_ns < kNsPerMs ? Status(Code::kUnavailable, "no time left to ask it")
                                              : call_one(endpoint, path, body, now_ns() + share_ns);
    if (answer.ok() || answer.code() == Code::kNotFound) {
      current_.store(index, std::memory_order_relaxed);
      return answer;
    }
    if (code == Code::kUnavailable) code = answer.code();
    if (!failures.empty()) failures += "; ";
    failures += fmt::format("{}: {}", join_host_port(endpoint.host, endpoint.port),
                            answer.status().message());
  }
  return error(code, "etcd at {}", failures);
}

Status EtcdStore::check() {
  const int64_t deadline_ns = deadline();
  const Result<Json> version = call("/version", nullptr, deadline_ns);
  if (!version.ok()) return version.status();
  const std::optional<std::string> text = text_field(*version, "etcdserver");
  if (!text) {
    return error(Code::kProtocol, "{}: what answers there is not etcd: '{}'", describe(),
                 printable(version->dump(-1, ' ', true, Json::error_handler_t::replace)));
  }
  // Shows a server that wants a user, or has no leader.
  const Result<std::optional<Entry>> any = range(std::string(kKeyPrefix), deadline_ns);
  if (any.code() == Code::kProtocol) {
    return any.status().with_context(
        fmt::format("version {} of etcd may be older than 3.4", printable(*text)));
  }
  return any.status();
}

Result<std::optional<Entry>> EtcdStore::range(const std::string& key, int64_t deadline_ns) {
  const Json request = {{"key", base64_encode(key)}};
  const Result<Json> answer = call("/v3/kv/range", &request, deadline_ns);
  if (!answer.ok()) {
    // Not an error of etcd's for a range: something else has no such page.
    if (answer.code() == Code::kNotFound) return Status(Code::kProtocol, answer.status().message());
    return answer.status();
  }
  const auto entries = answer->find("kvs");
  if (entries == answer->end()) return std::optional<Entry>();
  const bool shaped = entries->is_array() && entries->size() == 1 && entries->front().is_object();
  if (shaped) {
    const Json& entry = entries->front();
    // An empty value is left out of the answer.
    const std::optional<std::string> value =
        base64_decode(entry.contains("value") ? text_field(entry, "value").value_or("?") : "");
    if (value) return std::optional<Entry>({*value, number_field(entry, "lease").value_or(0)});
  }
  return error(Code::kProtocol, "{}: a malformed answer to a range request", describe());
}

Result<std::optional<std::string>> EtcdStore::get(const std::string& key) {
  Result<std::optional<Entry>> entry = range(key, deadline());
  if (!entry.ok()) return entry.status();
  if (!entry->has_value()) return std::optional<std::string>();
  return std::optional<std::string>(std::move((*entry)->value));
}

Result<bool> EtcdStore::renew(int64_t lease, int64_t deadline_ns) {
  const Json request = {{"ID", std::to_string(lease)}};
  const Result<Json> answer = call("/v3/lease/keepalive", &request, deadline_ns);
  if (answer.code() == Code::kNotFound) return false;
  if (!answer.ok()) return answer.status();
  const auto result = answer->find("result");
  if (result == answer->end() || !result->is_object()) {
    return error(Code::kProtocol, "{}: a malformed answer to a lease renewal", describe());
  }
  return number_field(*result, "TTL").value_or(0) > 0;  // a lost lease is answered without a TTL
}

Result<int64_t> EtcdStore::grant(int64_t deadline_ns) {
  const Json request = {{"TTL", std::to_string(lease_ttl_s_)}};
  const Result<Json> answer = call("/v3/lease/grant", &request, deadline_ns);
  if (!answer.ok()) return answer.status();
  const std::optional<int64_t> lease = number_field(*answer, "ID");
  if (!lease || *lease == 0) {
    return error(Code::kProtocol, "{}: a malformed answer to a lease request", describe());
  }
  return *lease;
}

// The store's lease with its whole life before it: renewed, or a new one where it was lost.
Result<int64_t> EtcdStore::live_lease(int64_t deadline_ns) {
  int64_t lease = 0;
  {
    MutexLock lock(mutex_);
    lease = lease_;
  }
  if (lease != 0) {
    const Result<bool> renewed = renew(lease, deadline_ns);
    if (!renewed.ok()) return renewed.status();
    if (*renewed) return lease;
  }
  const Result<int64_t> granted = grant(deadline_ns);
  if (!granted.ok()) return granted;
  MutexLock lock(mutex_);
  // Another thread may have been first; the lease that nobody uses ends by itself.
  if (lease_ == lease) lease_ = *granted;
  return lease_;
}

Result<bool> EtcdStore::put_if(Json compare, const std::string& key, const std::string& value,
                               int64_t deadline_ns) {
  const Result<int64_t> lease = live_lease(deadline_ns);
  if (!lease.ok()) return lease.status();
  const Json put = {{"request_put",
                     {{"key", base64_encode(key)},
                      {"value", base64_encode(value)},
                      {"lease", std::to_string(*lease)}}}};
  const Json request = {{"compare", Json::array({std::move(compare)})},
                        {"success", Json::array({put})}};
  const Result<Json> answer = call("/v3/kv/txn", &request, deadline_ns);
  if (!answer.ok()) {
    // The lease was lost since it was renewed.
    if (answer.code() == Code::kNotFound) {
      return error(Code::kUnavailable, "{}: {}", describe(), answer.status().message());
    }
    return answer.status();
  }
  return answer->value("succeeded", Json(false)) == Json(true);
}

Result<bool> EtcdStore::create(const std::string& key, const std::string& value) {
  return put_if({{"key", base64_encode(key)},
                 {"target", "CREATE"},
                 {"result", "EQUAL"},
                 {"create_revision", "0"}},
                key, value, deadline());
}

Result<bool> EtcdStore::replace(const std::string& key, const std::string& expected,
                                const std::string& value) {
  return put_if(compare_value(key, expected), key, value, deadline());
}

Result<bool> EtcdStore::keep_alive(const std::string& key, const std::string& value) {
  const int64_t deadline_ns = deadline();
  const Result<int64_t> lease = live_lease(deadline_ns);
  if (!lease.ok()) return lease.status();
  const Result<std::optional<Entry>> entry = range(key, deadline_ns);
  if (!entry.ok()) return entry.status();
  if (!entry->has_value() || (*entry)->value != value) return false;
  if ((*entry)->lease == *lease) return true;
  return put_if(compare_value(key, value), key, value, deadline_ns);
}

Result<bool> EtcdStore::remove(const std::string& key, const std::string& expected) {
  const Json erase = {{"request_delete_range", {{"key", base64_encode(key)}}}};
  const Json request = {{"compare", Json::array({compare_value(key, expected)})},
                        {"success", Json::array({erase})}};
  const Result<Json> answer = call("/v3/kv/txn", &request, deadline());
  if (!answer.ok()) return answer.status();
  return answer->value("succeeded", Json(false)) == Json(true);
}

}  // namespace

std::unique_ptr<Store> make_etcd_store(const Connection& connection,
                                       const DirectoryOptions& options) {
  return std::make_unique<EtcdStore>(connection, options);
}

}  // namespace te
