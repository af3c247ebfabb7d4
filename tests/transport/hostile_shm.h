// The two sides of shm's local socket, for tests whose other side does not keep to the protocol.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/random.h"
#include "support/facts.h"
#include "transport/shm/link.h"
#include "transport/shm/responder.h"

namespace te::shm {

inline Advertisement make_offer() {
  Advertisement advertisement;
  advertisement.token = random_bytes16();
  advertisement.cookie.fill(0x5C);
  return advertisement;
}

inline std::optional<Received> receive(int socket) {
  std::optional<Received> result;
  test::eventually([&] {
    Result<std::optional<Received>> received = receive_message(socket);
    if (!received.ok()) return true;
    if (received->has_value()) result = std::move(*received);
    return result.has_value();
  });
  return result;
}

// Whether the other end closes the socket.
inline bool is_closed(int socket) {
  return test::eventually(
      [socket] { return receive_message(socket).code() == Code::kUnavailable; });
}

// A target, and initiators that are not what they should be.
class HostileInitiator : public testing::Test {
 protected:
  HostileInitiator() {
    config_.hello_timeout_ms = 200;
    config_.max_inbound_connections = 4;
    loop_ = EventLoop::create("test").take();
    table_ = RangeTable::create().take();
    blocks_ = std::make_unique<BlockTable>(*table_);
    responder_ = std::make_unique<Responder>(*loop_, *table_, *blocks_, advertisement_, config_);
    EXPECT_TRUE(responder_->listen(instance_).ok());
    EXPECT_TRUE(loop_->start().ok());
  }
  ~HostileInitiator() override {
    loop_->stop();
    responder_->close();
  }

  Fd connect() { return connect_local(instance_).take(); }
  Message hello() const {
    Message message;
    std::copy(advertisement_.token.begin(), advertisement_.token.end(), message.data.begin());
    return message;
  }
  // What a well-behaved one sees.
  testing::AssertionResult serves() {
    Result<std::shared_ptr<Link>> link = Link::connect(*loop_, instance_, advertisement_, 5'000);
    if (!link.ok()) return testing::AssertionFailure() << link.status().to_string();
    return (*link)->attach_allowed()
               ? testing::AssertionSuccess()
               : testing::AssertionFailure() << "cannot touch its own process's memory";
  }

  Config config_;
  const Advertisement advertisement_ = make_offer();
  const uint64_t instance_ = random_u64();
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<RangeTable> table_;
  std::unique_ptr<BlockTable> blocks_;
  std::unique_ptr<Responder> responder_;
};

// A listener that answers the first message with what the test says.
class HostileTarget : public testing::Test {
 protected:
  HostileTarget() : listener_(listen_local(instance_).take()) {
    loop_ = EventLoop::create("test").take();
    EXPECT_TRUE(loop_->start().ok());
  }
  ~HostileTarget() override {
    if (thread_.joinable()) thread_.join();
    loop_->stop();
  }

  Result<std::shared_ptr<Link>> connect(std::function<void(int)> answer, int64_t limit_ms = 2'000) {
    if (thread_.joinable()) thread_.join();
    thread_ = std::thread([this, answer = std::move(answer)] {
      EXPECT_TRUE(test::eventually([this] {
        socket_ = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        return socket_.valid();
      }));
      EXPECT_TRUE(receive(socket_.get()).has_value());
      answer(socket_.get());
    });
    Result<std::shared_ptr<Link>> link = Link::connect(*loop_, instance_, advertisement_, limit_ms);
    thread_.join();
    return link;
  }
  Message welcome(const void* cookie) const {
    Message message;
    message.kind = Kind::kWelcome;
    message.value = reinterpret_cast<uint64_t>(cookie);
    return message;
  }

  const Advertisement advertisement_ = make_offer();
  const uint64_t instance_ = random_u64();
  const Fd listener_;
  Fd socket_;
  std::unique_ptr<EventLoop> loop_;
  const std::unique_ptr<RangeTable> table_ = RangeTable::create().take();
  std::thread thread_;
};

}  // namespace te::shm
