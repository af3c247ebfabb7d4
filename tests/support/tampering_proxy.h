// A TCP proxy in front of an engine that sees, and may change, what peers send: somebody in
// between.
//
// Threads: one of its own for each connection and direction.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <list>
#include <string>
#include <thread>
#include <utility>

#include "base/mutex.h"
#include "base/socket.h"

namespace te::test {

class TamperingProxy {
 public:
  // Called with each piece of bytes on its way, one at a time. `forth`: from the side that
  // connected.
  using Tamper = std::function<void(std::string& bytes, bool forth)>;

  TamperingProxy(const std::string& endpoint, Tamper tamper)
      : to_(*parse_host_port(endpoint)), tamper_(std::move(tamper)) {
    Result<Fd> listening = listen_tcp("127.0.0.1", 0, 64);
    EXPECT_TRUE(listening.ok()) << listening.status().to_string();
    listening_ = listening.take();
    accepting_ = std::thread([this] { accept_all(); });
  }
  ~TamperingProxy() {
    ending_ = true;
    ::shutdown(listening_.get(), SHUT_RDWR);
    accepting_.join();
    for (Connection& each : connections_) {
      ::shutdown(each.near.get(), SHUT_RDWR);
      ::shutdown(each.far.get(), SHUT_RDWR);
      each.forth.join();
      each.back.join();
    }
  }
  TamperingProxy(const TamperingProxy&) = delete;
  TamperingProxy& operator=(const TamperingProxy&) = delete;

  std::string endpoint() const {
    return join_host_port("127.0.0.1", local_address(listening_.get()).port());
  }
  size_t connections() const { return count_.load(); }

 private:
  struct Connection {
    Fd near, far;  // the side that connected, the engine
    std::thread forth, back;
  };

  void accept_all() {
    for (;;) {
      pollfd entry{listening_.get(), POLLIN, 0};
      ::poll(&entry, 1, -1);
      if (ending_.load()) return;
      Fd near(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!near.valid()) continue;
      const Result<std::vector<SocketAddress>> to = resolve_host(to_.host, to_.port);
      Fd far(::socket(to->front().get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (::connect(far.get(), to->front().get(), to->front().length) != 0) continue;
      Connection& added = connections_.emplace_back();
      added.near = std::move(near);
      added.far = std::move(far);
      added.forth = std::thread([this, &added] { carry(added.near, added.far, true); });
      added.back = std::thread([this, &added] { carry(added.far, added.near, false); });
      count_.fetch_add(1);
    }
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
      size_t sent = 0;
      while (sent < bytes.size()) {
        const ssize_t step =
            ::send(to.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
        if (step <= 0) break;
        sent += static_cast<size_t>(step);
      }
      if (sent < bytes.size()) break;
    }
    // Both: a side that ends ends the connection, as it would without anybody in between.
    ::shutdown(from.get(), SHUT_RD);
    ::shutdown(to.get(), SHUT_WR);
  }

  const HostPort to_;
  const Tamper tamper_;
  Fd listening_;
  std::atomic<bool> ending_{false};
  std::atomic<size_t> count_{0};
  Mutex mutex_;
  std::list<Connection> connections_;  // of the accepting thread
  std::thread accepting_;
};

}  // namespace te::test
