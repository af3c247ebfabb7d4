#include "directory/curl_handle.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <string_view>

#include "base/fork.h"
#include "base/log.h"
#include "directory/connection.h"

namespace te {
namespace {

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

void set_file(CURL* handle, CURLoption option, const std::string& path) {
  curl().easy_setopt(handle, option, path.empty() ? nullptr : path.c_str());
}

void set_tls(CURL* handle, const DirectoryTls& tls) {
  curl().easy_setopt(handle, CURLOPT_SSL_VERIFYPEER, 1L);
  curl().easy_setopt(handle, CURLOPT_SSL_VERIFYHOST, 2L);
  curl().easy_setopt(handle, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (!tls.directory_tls_ca.empty()) {
    set_file(handle, CURLOPT_CAINFO, tls.directory_tls_ca);
    curl().easy_setopt(handle, CURLOPT_CAPATH, nullptr);  // or the system's would count too
  }
  if (tls.directory_tls_cert.empty()) return;
  set_file(handle, CURLOPT_SSLCERT, tls.directory_tls_cert);
  set_file(handle, CURLOPT_SSLKEY,
           tls.directory_tls_key.empty() ? tls.directory_tls_cert : tls.directory_tls_key);
  // An encrypted key is an error: without a phrase the TLS library asks for one on the terminal.
  curl().easy_setopt(handle, CURLOPT_KEYPASSWD, "");
}

bool has_any(std::string_view text, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(), [text](std::string_view part) {
    return text.find(part) != std::string_view::npos;
  });
}

// The server ended the TLS connection over the certificate that it was shown, or was not.
bool refused_certificate(std::string_view text) {
  return has_any(text, {"certificate required", "alert bad certificate", "alert unknown ca",
                        "alert certificate", "alert handshake failure"});
}

bool uses_tls(CURL* handle) {
  const char* scheme = nullptr;
  curl().easy_getinfo(handle, CURLINFO_SCHEME, &scheme);
  return scheme != nullptr && std::string_view(scheme) == "HTTPS";
}

bool finished_handshake(CURL* handle) {
  curl_off_t handshake_us = 0;
  curl().easy_getinfo(handle, CURLINFO_APPCONNECT_TIME_T, &handshake_us);
  return handshake_us > 0;
}

// On a connection that was made for this request, so that no idle one just ended.
bool lost_at_once(CURL* handle, CURLcode code) {
  long connections = 0;
  curl().easy_getinfo(handle, CURLINFO_NUM_CONNECTS, &connections);
  return (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING) &&
         connections > 0 && finished_handshake(handle);
}

}  // namespace

const CurlLibrary& curl() { return *curl_library().value(); }

SigpipeGuard::SigpipeGuard() {
  sigset_t pending;
  sigpending(&pending);
  was_pending_ = sigismember(&pending, SIGPIPE) == 1;
  sigset_t block;
  sigemptyset(&block);
  sigaddset(&block, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &block, &before_);
}

SigpipeGuard::~SigpipeGuard() {
  if (!was_pending_) {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    const timespec now{};
    sigtimedwait(&pipe, nullptr, &now);
  }
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void set_up(CURL* handle, const DirectoryTls& tls, std::chrono::milliseconds timeout,
            char* detail) {
  const long timeout_ms = static_cast<long>(std::max<int64_t>(1, timeout.count()));
  *detail = '\0';
  curl().easy_setopt(handle, CURLOPT_ERRORBUFFER, detail);
  curl().easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl().easy_setopt(handle, CURLOPT_OPENSOCKETFUNCTION, open_socket);
  curl().easy_setopt(handle, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
  curl().easy_setopt(handle, CURLOPT_NOPROXY, "*");
  curl().easy_setopt(handle, CURLOPT_TIMEOUT_MS, timeout_ms);
  curl().easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, timeout_ms);
  curl().easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 0L);
#if LIBCURL_VERSION_NUM >= 0x075500
  curl().easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
#else
  curl().easy_setopt(handle, CURLOPT_PROTOCOLS,
                     static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
  set_tls(handle, tls);
}

Status curl_failure(CURL* handle, CURLcode code, const char* detail) {
  const std::string_view text = *detail != '\0' ? detail : curl().easy_strerror(code);
  if (refused_certificate(text)) {
    return error(
        Code::kPermission,
        "it refused this engine's certificate, or demands one: see directory_tls_cert ({})", text);
  }
  // With TLS 1.3 a server refuses a certificate when the client has finished; its reason may be
  // lost.
  if (uses_tls(handle) && lost_at_once(handle, code)) {
    return error(Code::kUnavailable,
                 "it ended the connection after the TLS handshake, as if it refused this engine's "
                 "certificate or demanded one: see directory_tls_cert ({})",
                 text);
  }
  switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL:  // an answer without a status line
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
      return error(Code::kProtocol, "what answers there does not speak HTTP ({}); {}", text,
                   kTlsSchemes);
    case CURLE_GOT_NOTHING:
      return error(Code::kProtocol,
                   "what listens there closed the connection without an HTTP answer; {}",
                   kTlsSchemes);
    case CURLE_SSL_CONNECT_ERROR:
      return error(Code::kProtocol, "no TLS connection: does it speak TLS? ({}); {}", text,
                   kTlsSchemes);
    case CURLE_PEER_FAILED_VERIFICATION:
      return error(Code::kPermission, "its certificate is not trusted ({})", text);
    case CURLE_SSL_CERTPROBLEM:
      return error(Code::kInvalidArgument,
                   "directory_tls_cert and directory_tls_key cannot be used ({})", text);
    case CURLE_SSL_CACERT_BADFILE:
      return error(Code::kInvalidArgument, "directory_tls_ca cannot be used ({})", text);
    case CURLE_OPERATION_TIMEDOUT:
      if (!uses_tls(handle) || finished_handshake(handle)) {
        return error(Code::kUnavailable, "{}", text);
      }
      return error(Code::kUnavailable, "no TLS connection in time: does it speak TLS? ({}); {}",
                   text, kTlsSchemes);
    case CURLE_OUT_OF_MEMORY:
      return error(Code::kResource, "{}", text);
    case CURLE_URL_MALFORMAT:
      return error(Code::kInvalidArgument, "{}", text);
    default:
      return error(Code::kUnavailable, "{}", text);
  }
}

HostPort server_of(CURL* handle) {
  HostPort server;
  char* address = nullptr;
  long port = 0;
  curl().easy_getinfo(handle, CURLINFO_PRIMARY_IP, &address);
  curl().easy_getinfo(handle, CURLINFO_PRIMARY_PORT, &port);
  if (address != nullptr) server.host = address;
  server.port = static_cast<uint16_t>(port);
  return server;
}

}  // namespace te
