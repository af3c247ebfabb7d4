// A redis stream over TLS. libcurl connects, checks the certificate and encrypts, as it does for
// HTTP, so that TLS has the same settings and the same errors everywhere; no HTTP is spoken.
#include <poll.h>

#include <array>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "directory/curl_handle.h"
#include "directory/http_client.h"
#include "directory/redis_stream.h"

namespace te {
namespace {

class TlsStream final : public RedisStream {
 public:
  explicit TlsStream(CurlHandle handle) : handle_(std::move(handle)) {}

  Status connect(const HostPort& endpoint, const DirectoryTls& tls, int64_t deadline_ns);
  Status send(std::string_view bytes, int64_t deadline_ns) override;
  Result<size_t> receive(char* into, size_t size, int64_t deadline_ns) override;
  HostPort server() const override { return server_of(handle_.get()); }

 private:
  std::array<char, CURL_ERROR_SIZE> detail_{};  // libcurl writes its error texts here
  CurlHandle handle_;
  curl_socket_t fd_ = CURL_SOCKET_BAD;
  bool used_ = false;  // something was received
};

Status TlsStream::connect(const HostPort& endpoint, const DirectoryTls& tls, int64_t deadline_ns) {
  const std::chrono::milliseconds timeout((deadline_ns - now_ns()) / kNsPerMs);
  set_up(handle_.get(), tls, timeout, detail_.data());
  curl().easy_setopt(handle_.get(), CURLOPT_URL, http_origin(endpoint, true).c_str());
  curl().easy_setopt(handle_.get(), CURLOPT_CONNECT_ONLY, 1L);
  curl().easy_setopt(handle_.get(), CURLOPT_SSL_ENABLE_ALPN, 0L);
  const SigpipeGuard guard;
  const CURLcode code = curl().easy_perform(handle_.get());
  if (code != CURLE_OK) return curl_failure(handle_.get(), code, detail_.data());
  curl().easy_getinfo(handle_.get(), CURLINFO_ACTIVESOCKET, &fd_);
  return {};
}

Status TlsStream::send(std::string_view bytes, int64_t deadline_ns) {
  while (!bytes.empty()) {
    size_t sent = 0;
    CURLcode code;
    {
      const SigpipeGuard guard;
      code = curl().easy_send(handle_.get(), bytes.data(), bytes.size(), &sent);
    }
    if (code == CURLE_AGAIN) {
      TE_RETURN_IF_ERROR(wait_for_redis(fd_, POLLOUT, deadline_ns));
    } else if (code != CURLE_OK) {
      return curl_failure(handle_.get(), code, detail_.data());
    }
    bytes.remove_prefix(sent);
  }
  return {};
}

Result<size_t> TlsStream::receive(char* into, size_t size, int64_t deadline_ns) {
  for (;;) {
    size_t got = 0;
    CURLcode code;
    {
      const SigpipeGuard guard;
      code = curl().easy_recv(handle_.get(), into, size, &got);
    }
    if (code == CURLE_OK && got > 0) {
      used_ = true;
      return got;
    }
    if (code == CURLE_OK) return ended("it closed the connection");
    if (code != CURLE_AGAIN) {
      if (used_) return ended("connection lost");
      return curl_failure(handle_.get(), code, detail_.data());
    }
    TE_RETURN_IF_ERROR(wait_for_redis(fd_, POLLIN, deadline_ns));
  }
}

}  // namespace

Result<std::unique_ptr<RedisStream>> open_tls_stream(const HostPort& endpoint,
                                                     const DirectoryTls& tls, int64_t deadline_ns) {
  TE_RETURN_IF_ERROR(curl_library().status());
  CurlHandle handle(curl().easy_init());
  if (handle == nullptr) return Status(Code::kResource, "libcurl has no memory for a connection");
  auto stream = std::make_unique<TlsStream>(std::move(handle));
  TE_RETURN_IF_ERROR(stream->connect(endpoint, tls, deadline_ns));
  return std::unique_ptr<RedisStream>(std::move(stream));
}

}  // namespace te
