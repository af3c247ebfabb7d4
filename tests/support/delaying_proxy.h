// A TCP proxy in front of an engine that can hold back what was sent on data connections, and let
// it go later: what a network with long queues does.
//
// Threads: one of its own for each connection and direction; the calls from one thread.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <list>
#include <string>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/socket.h"
#include "core/wire.h"

namespace te::test {

class DelayingProxy {
 public:
  explicit DelayingProxy(const std::string& endpoint) : to_(*parse_host_port(endpoint)) {
    Result<Fd> listening = listen_tcp("127.0.0.1", 0, 64);
    EXPECT_TRUE(listening.ok()) << listening.status().to_string();
    listening_ = listening.take();
    accepting_ = std::thread([this] { accept_all(); });
  }
  ~DelayingProxy() {
    ending_ = true;
    ::shutdown(listening_.get(), SHUT_RDWR);
    accepting_.join();
    MutexLock lock(mutex_);
    for (Connection& each : connections_) {
      ::shutdown(each.near.get(), SHUT_RDWR);
      ::shutdown(each.far.get(), SHUT_RDWR);
    }
    lock_free_join();
  }
  DelayingProxy(const DelayingProxy&) = delete;
  DelayingProxy& operator=(const DelayingProxy&) = delete;

  std::string endpoint() const {
    return join_host_port("127.0.0.1", local_address(listening_.get()).port());
  }
  // What peers send from here on over the data connections that there are now goes no further.
  void hold() {
    MutexLock lock(mutex_);
    for (Connection& each : connections_) each.held = each.carries_data.load();
  }
  // It goes on, in order; returns when all of it went to the target, or cannot.
  void release() {
    MutexLock lock(mutex_);
    for (Connection& each : connections_) each.held = false;
    for (const Connection& each : connections_) {
      while (!each.forwarded) {
        mutex_.unlock();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        mutex_.lock();
      }
    }
  }
  size_t held_bytes() const { return held_bytes_.load(); }

 private:
  struct Connection {
    Fd near, far;  // the initiator's, the target's
    std::atomic<bool> carries_data{false}, held{false}, forwarded{true};
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
      MutexLock lock(mutex_);
      Connection& added = connections_.emplace_back();
      added.near = std::move(near);
      added.far = std::move(far);
      added.forth = std::thread([this, &added] { forward(added); });
      added.back = std::thread([&added] { copy_back(added); });
    }
  }

  static bool send_all(int fd, const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t step = ::send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (step <= 0) return false;
      sent += static_cast<size_t>(step);
    }
    return true;
  }

  // Keeps taking what the initiator sends, also while it is held.
  void forward(Connection& connection) {
    std::string kept;
    char buffer[65536];
    bool greeted = false, open = true;
    while (open || !kept.empty()) {
      if (!open) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const bool held = connection.held.load();
      const int flags = kept.empty() ? 0 : MSG_DONTWAIT;
      const ssize_t got = open ? ::recv(connection.near.get(), buffer, sizeof buffer, flags) : 0;
      if (got == 0 || (got < 0 && errno != EAGAIN)) open = false;
      if (got > 0) {
        kept.append(buffer, static_cast<size_t>(got));
        connection.forwarded = false;
      }
      if (!greeted && kept.size() >= wire::Hello::kSize) {
        const Result<wire::Hello> hello =
            wire::Hello::decode(as_bytes(std::string_view(kept).substr(0, wire::Hello::kSize)));
        connection.carries_data = hello.ok() && hello->kind == wire::ChannelKind::kTcpData;
        greeted = true;
      }
      if ((held || connection.held.load()) && !ending_.load()) {
        if (got > 0) held_bytes_.fetch_add(static_cast<size_t>(got));
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        continue;
      }
      if (!send_all(connection.far.get(), kept)) open = false;
      kept.clear();
      connection.forwarded = true;
    }
    ::shutdown(connection.far.get(), SHUT_WR);
  }
  static void copy_back(Connection& connection) {
    char buffer[65536];
    for (;;) {
      const ssize_t got = ::recv(connection.far.get(), buffer, sizeof buffer, 0);
      if (got <= 0) break;
      if (!send_all(connection.near.get(), std::string(buffer, static_cast<size_t>(got)))) break;
    }
    ::shutdown(connection.near.get(), SHUT_WR);
  }
  void lock_free_join() TE_REQUIRES(mutex_) {
    for (Connection& each : connections_) {
      each.forth.join();
      each.back.join();
    }
  }

  const HostPort to_;
  Fd listening_;
  std::atomic<bool> ending_{false};
  std::atomic<size_t> held_bytes_{0};
  Mutex mutex_;
  std::list<Connection> connections_ TE_GUARDED_BY(mutex_);
  std::thread accepting_;
};

}  // namespace te::test
