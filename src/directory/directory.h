// The contract of a directory: it resolves segment names to locators. (The API calls it metadata.)
//
// Threads: every method may be called from any thread. Calls block, bounded by the timeout.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/options.h"
#include "core/locator.h"
#include "transfer_engine/status.h"

namespace te {

struct DirectoryOptions {
  std::chrono::milliseconds timeout{3000};  // of one call, over all endpoints
  std::chrono::seconds lease{5};            // a name that nobody keeps alive is gone after this
  DirectoryTls tls{};
  DirectoryLogin login{};
};

class Directory {
 public:
  virtual ~Directory() = default;

  // What it is, for people: "etcd at 10.0.0.1:2379,10.0.0.2:2379". Never holds a password.
  virtual std::string describe() const = 0;

  // Claims `name` and keeps it alive, published again by itself when the server lost it, until
  // withdraw() or the destructor. When the name is held by another instance, `alive` is asked
  // whether that one still answers: if so kAlreadyExists, else it is replaced.
  // A copy of `alive` is kept as long as the claim, and asked from another thread when the name was
  // lost to somebody; it must not call publish() or withdraw(). Empty: every holder counts as
  // alive.
  virtual Status publish(std::string_view name, const Locator& locator,
                         const std::function<bool(const Locator& holder)>& alive) = 0;
  // Withdraws all names and ends what keeps them alive, after which nothing may be published. Waits
  // for calls under way, so for the timeout of two calls at most. The first error; the names then
  // end with their lease.
  virtual Status leave() { return {}; }
  // Takes the name out, if it is still ours. kNotFound when it was never published here.
  virtual Status withdraw(std::string_view name) = 0;
  // kNotFound when nobody holds the name; kUnavailable when the server cannot be reached.
  virtual Result<Locator> resolve(std::string_view name) = 0;
  // Whether resolve() does, so that it may block.
  virtual bool asks_a_server() const { return true; }
  // The local address that reaches the server, or empty when there is no server or no way to it.
  virtual std::string local_address() const = 0;
};

// By connection string: "P2PHANDSHAKE", "etcd://h:p[,h:p]", "h:p", "redis://[:password@]h:p[/db]",
// "http://h:p/path"; with TLS "etcds://", "rediss://", "https://". Contacts the server:
// kInvalidArgument for what cannot be understood, kUnavailable, kPermission (wrong password or
// certificate) or kProtocol (something else answers there).
Result<std::unique_ptr<Directory>> open_directory(std::string_view connection,
                                                  const DirectoryOptions& options);

}  // namespace te
