// HTTP requests over libcurl, for the directories that speak HTTP: bounded in time and size,
// without redirects, proxies or signals.
//
// Threads: any; connections are kept for later requests and never shared by two at a time.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/secret.h"
#include "base/socket.h"
#include "directory/curl_handle.h"
#include "transfer_engine/status.h"

namespace te {

struct HttpRequest {
  std::string_view method;  // "GET", "PUT", "POST" or "DELETE"
  std::string url;
  std::string_view body;  // of PUT and POST
  std::vector<std::string> headers;
  std::chrono::milliseconds timeout{0};
  Secret authorization{};  // the value of that header; empty: none
};

struct HttpResponse {
  long status = 0;
  std::string body;
  HostPort server;  // the numeric address that answered
};

inline constexpr size_t kMaxHttpReplyBytes = 64 * 1024;

class HttpClient {
 public:
  explicit HttpClient(DirectoryTls tls = {}) : tls_(std::move(tls)) {}
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Any complete HTTP answer is a success, whatever its status. Failures are those of
  // curl_failure(), and kProtocol for an answer that is too long. The text does not name the URL.
  Result<HttpResponse> perform(const HttpRequest& request);

 private:
  CurlHandle take_handle() TE_EXCLUDES(mutex_);
  void give_back(CurlHandle handle) TE_EXCLUDES(mutex_);

  const DirectoryTls tls_;
  Mutex mutex_;
  std::vector<CurlHandle> idle_ TE_GUARDED_BY(mutex_);  // each with its connection
};

// "http://host:port", with IPv6 addresses as URLs write them.
std::string http_origin(const HostPort& endpoint, bool tls);
// Every byte but the unreserved ones as %XX.
std::string percent_encode(std::string_view text);

}  // namespace te
