// The servers that the directory's tests run against, behind one face, and helpers for them.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

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
};

std::unique_ptr<Backend> make_http_backend();
std::unique_ptr<Backend> make_redis_backend(const std::string& password = {});
std::unique_ptr<Backend> make_etcd_backend();
// A first endpoint where nobody listens, then the real one.
std::unique_ptr<Backend> make_etcd_failover_backend();

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
