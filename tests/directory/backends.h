// The servers that the directory's tests run against, behind one face, and helpers for them.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "authority.h"
#include "base/mutex.h"
#include "directory/directory.h"
#include "directory/store.h"
#include "support/servers.h"
#include "transfer_engine/engine.h"

namespace te::test {

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string missing() const { return {}; }  // the program that is not installed
  virtual Status start() = 0;
  virtual void stop() = 0;
  virtual Status restart_empty() = 0;
  virtual std::string url() const = 0;
  virtual std::string endpoint() const = 0;
  virtual bool has_leases() const { return true; }
  // The same port and the data that it kept.
  virtual Status restart() { return restart_empty(); }
  // What an engine's settings must say to use it.
  virtual void secure(DirectoryOptions&) {}
};

std::unique_ptr<Backend> make_http_backend();
std::unique_ptr<Backend> make_redis_backend(const std::string& password = {});
std::unique_ptr<Backend> make_etcd_backend();
// A first endpoint where nobody listens, then the real one.
std::unique_ptr<Backend> make_etcd_failover_backend();

// A server with TLS: its certificate, and the authority of it and of its clients.
struct Identity {
  Identity() = default;
  // As issued for `names`, see Authority::issue().
  explicit Identity(const std::string& names, long valid_s = 3600)
      : own(authority->issue(names, valid_s)) {}

  std::shared_ptr<Authority> authority = std::make_shared<Authority>();
  Authority::Issued own = authority->issue();
};
// All demand client certificates. http also wants a token, redis a password, etcd_user a user who
// may use the keys of segments only.
std::unique_ptr<Backend> make_http_tls_backend(const Identity& identity = {});
std::unique_ptr<Backend> make_redis_tls_backend(const Identity& identity = {});
std::unique_ptr<Backend> make_etcd_tls_backend(const Identity& identity = {});
std::unique_ptr<Backend> make_etcd_user_backend(const Identity& identity = {});
// Their token and password.
inline constexpr const char* kBackendSecret = "a-secret-of-the-tests";

// The store below the directory, to plant values as another process would.
std::unique_ptr<Store> open_store(const std::string& url, const DirectoryOptions& options);

// Polls until `holds`, for at most 15 seconds.
bool eventually(const std::function<bool()>& holds);

// Collects what the library logs while it lives.
class LogCapture {
 public:
  explicit LogCapture(LogLevel level);
  ~LogCapture();
  size_t count(LogLevel level, const std::string& part) const;
  std::string all() const;

 private:
  struct Line {
    LogLevel level;
    std::string text;
  };
  mutable Mutex mutex_;
  std::vector<Line> lines_ TE_GUARDED_BY(mutex_);
};

}  // namespace te::test
