// What TCP proxies in front of an engine have in common: they accept, and connect on.
//
// Threads: one of its own that accepts; the calls from one thread.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "base/socket.h"

namespace te::test {

class ProxyListener {
 public:
  // The side that connected, and the engine. Called by the accepting thread.
  using Take = std::function<void(Fd near, Fd far)>;

  ProxyListener(const std::string& endpoint, Take take)
      : to_(*parse_host_port(endpoint)), take_(std::move(take)) {
    Result<Fd> listening = listen_tcp("127.0.0.1", 0, 64);
    EXPECT_TRUE(listening.ok()) << listening.status().to_string();
    listening_ = listening.take();
    accepting_ = std::thread([this] { accept_all(); });
  }
  ~ProxyListener() { stop(); }
  ProxyListener(const ProxyListener&) = delete;
  ProxyListener& operator=(const ProxyListener&) = delete;

  std::string endpoint() const {
    return join_host_port("127.0.0.1", local_address(listening_.get()).port());
  }
  // Nothing is accepted from here on.
  void stop() {
    if (ending_.exchange(true)) return;
    ::shutdown(listening_.get(), SHUT_RDWR);
    accepting_.join();
  }

 private:
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
      take_(std::move(near), std::move(far));
    }
  }

  const HostPort to_;
  const Take take_;
  Fd listening_;
  std::atomic<bool> ending_{false};
  std::thread accepting_;
};

inline bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t step = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (step <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(step));
  }
  return true;
}

}  // namespace te::test
