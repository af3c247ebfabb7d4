// What every libcurl handle of a directory has: limits, TLS, sockets that children of a fork close,
// and what its failures mean.
//
// Threads: one at a time for each handle.
#pragma once

#include <chrono>
#include <csignal>
#include <memory>

#include "base/options.h"
#include "base/socket.h"
#include "directory/curl_library.h"
#include "transfer_engine/status.h"

namespace te {

// Only where curl_library() succeeded before.
const CurlLibrary& curl();

struct CurlDeleter {
  void operator()(CURL* handle) const { curl().easy_cleanup(handle); }
};
using CurlHandle = std::unique_ptr<CURL, CurlDeleter>;

// What libcurl would raise as SIGPIPE in this thread while this lives is kept from the host
// process.
class SigpipeGuard {
 public:
  SigpipeGuard();
  ~SigpipeGuard();
  SigpipeGuard(const SigpipeGuard&) = delete;
  SigpipeGuard& operator=(const SigpipeGuard&) = delete;

 private:
  sigset_t before_{};
  bool was_pending_ = false;
};

// No redirects, proxies or signals; over TLS, 1.2 or later, the server must prove its host name by
// a certificate from an authority of `tls`. `detail` has CURL_ERROR_SIZE bytes and outlives the
// use.
void set_up(CURL* handle, const DirectoryTls& tls, std::chrono::milliseconds timeout, char* detail);

// kUnavailable: no way to the server, or no answer in time; kProtocol: what answers speaks
// something else; kPermission: one of the two refused the other's certificate; kInvalidArgument: a
// file of the settings cannot be used.
Status curl_failure(CURL* handle, CURLcode code, const char* detail);

// The numeric address that answered last; empty before.
HostPort server_of(CURL* handle);

}  // namespace te
