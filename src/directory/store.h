// What LeasedDirectory needs of a server: a map from keys to values whose entries end when nobody
// keeps them alive. etcd, redis and the HTTP metadata server implement it.
//
// Threads: every method may be called from any thread. Calls block, each bounded by the timeout
// given to the store, over all its endpoints. Failures: kUnavailable (no server answers, naming
// each one tried), kPermission, kProtocol (what answers is something else, or says nonsense).
// Values that come out are as hostile as the server.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "directory/connection.h"
#include "directory/directory.h"
#include "transfer_engine/status.h"

namespace te {

class Store {
 public:
  virtual ~Store() = default;

  virtual std::string describe() const = 0;
  // Contacts the server, so that a wrong address, kind or password shows before anything is stored.
  virtual Status check() = 0;

  virtual Result<std::optional<std::string>> get(const std::string& key) = 0;
  // False when the key exists.
  virtual Result<bool> create(const std::string& key, const std::string& value) = 0;
  // False when the key does not hold `expected`.
  virtual Result<bool> replace(const std::string& key, const std::string& expected,
                               const std::string& value) = 0;
  // Puts off the end of the entry by a whole lease. False when the key does not hold `value`.
  virtual Result<bool> keep_alive(const std::string& key, const std::string& value) = 0;
  // False when the key did not hold `expected`.
  virtual Result<bool> remove(const std::string& key, const std::string& expected) = 0;

  // The local address that reached the server, or empty before it was reached.
  virtual std::string local_address() const = 0;
};

// Nothing is contacted yet. `connection` must be of the kind.
std::unique_ptr<Store> make_etcd_store(const Connection& connection,
                                       const DirectoryOptions& options);
std::unique_ptr<Store> make_redis_store(const Connection& connection,
                                        const DirectoryOptions& options);
std::unique_ptr<Store> make_http_store(const Connection& connection,
                                       const DirectoryOptions& options);

}  // namespace te
