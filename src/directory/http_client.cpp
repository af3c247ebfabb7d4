#include "directory/http_client.h"

#include <cstring>
#include <memory>
#include <utility>

#include "base/log.h"

namespace te {
namespace {

constexpr size_t kMaxIdleHandles = 4;

struct Incoming {
  std::string body;
  bool too_long = false;
};

size_t receive_body(char* bytes, size_t, size_t count, void* context) {
  auto* incoming = static_cast<Incoming*>(context);
  if (incoming->body.size() + count > kMaxHttpReplyBytes) {
    incoming->too_long = true;
    return 0;  // ends the transfer
  }
  incoming->body.append(bytes, count);
  return count;
}

struct SlistDeleter {
  void operator()(curl_slist* list) const {
    for (curl_slist* at = list; at != nullptr; at = at->next) {
      ::explicit_bzero(at->data, std::strlen(at->data));  // one of them has the secret
    }
    curl().slist_free_all(list);
  }
};
using Slist = std::unique_ptr<curl_slist, SlistDeleter>;

Slist header_list(const HttpRequest& request) {
  // "Expect:" empty: a server that does not know 100-continue must not cost a second.
  Slist headers(curl().slist_append(nullptr, "Expect:"));
  for (const std::string& header : request.headers) {
    headers.reset(curl().slist_append(headers.release(), header.c_str()));
  }
  if (!request.authorization.empty()) {
    std::string header("Authorization: ");
    header.reserve(header.size() + request.authorization.view().size());  // no copy is left behind
    header += request.authorization.view();
    headers.reset(curl().slist_append(headers.release(), header.c_str()));
    cleanse(header);
  }
  return headers;
}

void set_method(CURL* handle, const HttpRequest& request) {
  if (request.method == "GET") {
    curl().easy_setopt(handle, CURLOPT_HTTPGET, 1L);
    return;
  }
  if (request.method != "DELETE") {
    curl().easy_setopt(handle, CURLOPT_POST, 1L);
    curl().easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE,
                       static_cast<curl_off_t>(request.body.size()));
    curl().easy_setopt(handle, CURLOPT_POSTFIELDS, request.body.empty() ? "" : request.body.data());
  }
  curl().easy_setopt(handle, CURLOPT_CUSTOMREQUEST, std::string(request.method).c_str());
}

}  // namespace

CurlHandle HttpClient::take_handle() {
  {
    MutexLock lock(mutex_);
    if (!idle_.empty()) {
      CurlHandle handle = std::move(idle_.back());
      idle_.pop_back();
      return handle;
    }
  }
  return CurlHandle(curl().easy_init());
}

void HttpClient::give_back(CurlHandle handle) {
  curl().easy_reset(handle.get());  // keeps the connection, forgets the caller's memory
  MutexLock lock(mutex_);
  if (idle_.size() < kMaxIdleHandles) idle_.push_back(std::move(handle));
}

Result<HttpResponse> HttpClient::perform(const HttpRequest& request) {
  TE_RETURN_IF_ERROR(curl_library().status());
  CurlHandle handle = take_handle();
  if (handle == nullptr) return Status(Code::kResource, "libcurl has no memory for a request");
  const Slist headers = header_list(request);
  Incoming incoming;
  char detail[CURL_ERROR_SIZE];
  set_up(handle.get(), tls_, request.timeout, detail);
  set_method(handle.get(), request);
  curl().easy_setopt(handle.get(), CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl().easy_setopt(handle.get(), CURLOPT_URL, request.url.c_str());
  curl().easy_setopt(handle.get(), CURLOPT_HTTPHEADER, headers.get());
  curl().easy_setopt(handle.get(), CURLOPT_WRITEFUNCTION, receive_body);
  curl().easy_setopt(handle.get(), CURLOPT_WRITEDATA, &incoming);
  CURLcode code;
  {
    SigpipeGuard guard;
    code = curl().easy_perform(handle.get());
  }
  HttpResponse response;
  curl().easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &response.status);
  response.server = server_of(handle.get());
  response.body = std::move(incoming.body);
  const Status failure = code == CURLE_OK ? Status() : curl_failure(handle.get(), code, detail);
  give_back(std::move(handle));

  if (incoming.too_long) {
    return error(Code::kProtocol, "the answer is longer than {} bytes", kMaxHttpReplyBytes);
  }
  if (!failure.ok()) return failure;
  return response;
}

std::string http_origin(const HostPort& endpoint, bool tls) {
  std::string host = endpoint.host;
  if (const size_t zone = host.find('%'); zone != std::string::npos) host.insert(zone + 1, "25");
  return fmt::format("{}://{}", tls ? "https" : "http", join_host_port(host, endpoint.port));
}

std::string percent_encode(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size() * 3);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                            (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
    if (unreserved) {
      out.push_back(c);
    } else {
      out.push_back('%');
      out.push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 15]);
    }
  }
  return out;
}

}  // namespace te
