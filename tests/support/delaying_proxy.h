// A TCP proxy in front of an engine that can hold back what was sent on data connections, and let
// it go later: what a network with long queues does.
//
// Threads: one of its own for each connection and direction; the calls from one thread.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <list>
#include <string>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mutex.h"
#include "core/wire.h"
#include "support/proxy_listener.h"

namespace te::test {

class DelayingProxy {
 public:
  explicit DelayingProxy(const std::string& endpoint)
      : listener_(endpoint, [this](Fd near, Fd far) { add(std::move(near), std::move(far)); }) {}
  ~DelayingProxy() {
    ending_ = true;
    listener_.stop();
    MutexLock lock(mutex_);
    for (Connection& each : connections_) {
      ::shutdown(each.near.get(), SHUT_RDWR);
      ::shutdown(each.far.get(), SHUT_RDWR);
    }
    lock_free_join();
  }
  DelayingProxy(const DelayingProxy&) = delete;
  DelayingProxy& operator=(const DelayingProxy&) = delete;

  std::string endpoint() const { return listener_.endpoint(); }
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

  void add(Fd near, Fd far) {
    MutexLock lock(mutex_);
    Connection& added = connections_.emplace_back();
    added.near = std::move(near);
    added.far = std::move(far);
    added.forth = std::thread([this, &added] { forward(added); });
    added.back = std::thread([&added] { copy_back(added); });
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
      if (!send_all(connection.near.get(), {buffer, static_cast<size_t>(got)})) break;
    }
    ::shutdown(connection.near.get(), SHUT_WR);
  }
  void lock_free_join() TE_REQUIRES(mutex_) {
    for (Connection& each : connections_) {
      each.forth.join();
      each.back.join();
    }
  }

  std::atomic<bool> ending_{false};
  std::atomic<size_t> held_bytes_{0};
  Mutex mutex_;
  std::list<Connection> connections_ TE_GUARDED_BY(mutex_);
  ProxyListener listener_;
};

}  // namespace te::test
