// A TCP proxy in front of an engine that sees, and may change, what peers send: somebody in
// between.
//
// Threads: one of its own for each connection and direction.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <list>
#include <string>
#include <thread>
#include <utility>

#include "base/fd.h"
#include "base/mutex.h"
#include "support/proxy_listener.h"

namespace te::test {

class TamperingProxy {
 public:
  // Called with each piece of bytes on its way, one at a time. `forth`: from the side that
  // connected.
  using Tamper = std::function<void(std::string& bytes, bool forth)>;

  TamperingProxy(const std::string& endpoint, Tamper tamper)
      : tamper_(std::move(tamper)),
        listener_(endpoint, [this](Fd near, Fd far) { add(std::move(near), std::move(far)); }) {}
  ~TamperingProxy() {
    listener_.stop();
    for (Connection& each : connections_) {
      ::shutdown(each.near.get(), SHUT_RDWR);
      ::shutdown(each.far.get(), SHUT_RDWR);
      each.forth.join();
      each.back.join();
    }
  }
  TamperingProxy(const TamperingProxy&) = delete;
  TamperingProxy& operator=(const TamperingProxy&) = delete;

  std::string endpoint() const { return listener_.endpoint(); }
  size_t connections() const { return count_.load(); }

 private:
  struct Connection {
    Fd near, far;  // the side that connected, the engine
    std::thread forth, back;
  };

  void add(Fd near, Fd far) {
    Connection& added = connections_.emplace_back();
    added.near = std::move(near);
    added.far = std::move(far);
    added.forth = std::thread([this, &added] { carry(added.near, added.far, true); });
    added.back = std::thread([this, &added] { carry(added.far, added.near, false); });
    count_.fetch_add(1);
  }

  void carry(const Fd& from, const Fd& to, bool forth) {
    char buffer[65536];
    for (;;) {
      const ssize_t got = ::recv(from.get(), buffer, sizeof buffer, 0);
      if (got <= 0) break;
      std::string bytes(buffer, static_cast<size_t>(got));
      {
        MutexLock lock(mutex_);
        tamper_(bytes, forth);
      }
      if (!send_all(to.get(), bytes)) break;
    }
    // Both: a side that ends ends the connection, as it would without anybody in between.
    ::shutdown(from.get(), SHUT_RD);
    ::shutdown(to.get(), SHUT_WR);
  }

  const Tamper tamper_;
  std::atomic<size_t> count_{0};
  Mutex mutex_;
  std::list<Connection> connections_;  // of the accepting thread
  ProxyListener listener_;
};

}  // namespace te::test
