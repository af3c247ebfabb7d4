#include "directory/http_client.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <memory>

#include "base/fork.h"
#include "base/log.h"
#include "directory/curl_library.h"

namespace te {
namespace {

constexpr size_t kMaxIdleHandles = 4;

// Only where it could be opened.
const CurlLibrary& curl() { return *curl_library().value(); }

// Keeps a SIGPIPE that a TLS library's write may raise in this thread away from the host process,
// which with CURLOPT_NOSIGNAL libcurl leaves to its caller.
class SigpipeGuard {
 public:
  SigpipeGuard() {
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    sigset_t block;
    sigemptyset(&block);
    sigaddset(&block, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &block, &before_);
  }
  ~SigpipeGuard() {
    if (!was_pending_) {
      sigset_t pipe;
      sigemptyset(&pipe);
      sigaddset(&pipe, SIGPIPE);
      const timespec now{};
      sigtimedwait(&pipe, nullptr, &now);
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  SigpipeGuard(const SigpipeGuard&) = delete;
  SigpipeGuard& operator=(const SigpipeGuard&) = delete;

 private:
  sigset_t before_{};
  bool was_pending_ = false;
};

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

// Sockets that children of a fork close.
curl_socket_t open_socket(void*, curlsocktype, curl_sockaddr* address) {
  const NoFork no_fork;
  const int fd = ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  note_descriptor(fd);
  return fd < 0 ? CURL_SOCKET_BAD : fd;
}

int close_socket(void*, curl_socket_t fd) {
  const NoFork no_fork;
  forget_descriptor(fd);
  return ::close(fd);
}

struct SlistDeleter {
  void operator()(curl_slist* list) const { curl().slist_free_all(list); }
};
using Slist = std::unique_ptr<curl_slist, SlistDeleter>;

Status curl_failure(CURLcode code, const char* detail) {
  const std::string_view text = *detail != '\0' ? detail : curl().easy_strerror(code);
  switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL:  // an answer without a status line
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
      return error(Code::kProtocol, "what answers there does not speak HTTP ({})", text);
    case CURLE_GOT_NOTHING:
      return Status(Code::kProtocol,
                    "what listens there closed the connection without an HTTP answer");
    case CURLE_SSL_CONNECT_ERROR:
      return error(Code::kProtocol, "no TLS connection ({})", text);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
      return error(Code::kPermission, "its certificate is not trusted ({})", text);
    case CURLE_OUT_OF_MEMORY:
      return error(Code::kResource, "{}", text);
    case CURLE_URL_MALFORMAT:
      return error(Code::kInvalidArgument, "{}", text);
    default:
      return error(Code::kUnavailable, "{}", text);
  }
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

void set_limits(CURL* handle, const HttpRequest& request) {
  const long timeout_ms = static_cast<long>(std::max<int64_t>(1, request.timeout.count()));
  curl().easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl().easy_setopt(handle, CURLOPT_OPENSOCKETFUNCTION, open_socket);
  curl().easy_setopt(handle, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
  curl().easy_setopt(handle, CURLOPT_NOPROXY, "*");
  curl().easy_setopt(handle, CURLOPT_TIMEOUT_MS, timeout_ms);
  curl().easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, timeout_ms);
  curl().easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 0L);
  curl().easy_setopt(handle, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
#if LIBCURL_VERSION_NUM >= 0x075500
  curl().easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
#else
  curl().easy_setopt(handle, CURLOPT_PROTOCOLS,
                     static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

}  // namespace

HttpClient::~HttpClient() {
  MutexLock lock(mutex_);
  for (void* handle : idle_) curl().easy_cleanup(handle);
}

void* HttpClient::take_handle() {
  {
    MutexLock lock(mutex_);
    if (!idle_.empty()) {
      void* handle = idle_.back();
      idle_.pop_back();
      return handle;
    }
  }
  return curl().easy_init();
}

void HttpClient::give_back(void* handle) {
  curl().easy_reset(handle);  // keeps the connection, forgets the caller's memory
  {
    MutexLock lock(mutex_);
    if (idle_.size() < kMaxIdleHandles) {
      idle_.push_back(handle);
      return;
    }
  }
  curl().easy_cleanup(handle);
}

Result<HttpResponse> HttpClient::perform(const HttpRequest& request) {
  TE_RETURN_IF_ERROR(curl_library().status());
  CURL* handle = take_handle();
  if (handle == nullptr) return Status(Code::kResource, "libcurl has no memory for a request");
  // "Expect:" empty: a server that does not know 100-continue must not cost a second.
  Slist headers(curl().slist_append(nullptr, "Expect:"));
  for (const std::string& header : request.headers) {
    headers.reset(curl().slist_append(headers.release(), header.c_str()));
  }
  Incoming incoming;
  char detail[CURL_ERROR_SIZE] = "";
  set_method(handle, request);
  set_limits(handle, request);
  curl().easy_setopt(handle, CURLOPT_URL, request.url.c_str());
  curl().easy_setopt(handle, CURLOPT_HTTPHEADER, headers.get());
  curl().easy_setopt(handle, CURLOPT_ERRORBUFFER, detail);
  curl().easy_setopt(handle, CURLOPT_WRITEFUNCTION, receive_body);
  curl().easy_setopt(handle, CURLOPT_WRITEDATA, &incoming);
  CURLcode code;
  {
    SigpipeGuard guard;
    code = curl().easy_perform(handle);
  }
  HttpResponse response;
  char* address = nullptr;
  long port = 0;
  curl().easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &response.status);
  curl().easy_getinfo(handle, CURLINFO_PRIMARY_IP, &address);
  curl().easy_getinfo(handle, CURLINFO_PRIMARY_PORT, &port);
  if (address != nullptr) response.server.host = address;
  response.server.port = static_cast<uint16_t>(port);
  response.body = std::move(incoming.body);
  give_back(handle);

  if (incoming.too_long) {
    return error(Code::kProtocol, "the answer is longer than {} bytes", kMaxHttpReplyBytes);
  }
  if (code != CURLE_OK) return curl_failure(code, detail);
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
