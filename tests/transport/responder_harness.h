// A Responder at one end of a pair of sockets, driven by hand: its loop never runs.
//
// One thread.
#pragma once

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "transport/frames.h"
#include "transport/tcp/responder.h"

namespace te::tcp::test {

class ResponderTest : public testing::Test, public ResponderOwner {
 protected:
  static constexpr size_t kGuard = 4096;
  static constexpr size_t kSize = 4096;

  void SetUp() override {
    Result<std::unique_ptr<EventLoop>> loop = EventLoop::create("te-test");
    ASSERT_TRUE(loop.ok()) << loop.status().to_string();
    loop_ = loop.take();
    memory_.assign(kGuard + kSize + kGuard, kUntouched);
    Result<AccessKey> key = table_.add(address(), kSize, Rights::kBoth);
    ASSERT_TRUE(key.ok());
    key_ = *key;
    connect();
    responder_->admit(kInstance);
    EXPECT_EQ(take().size(), wire::HelloAnswer::kSize);
  }
  void TearDown() override {
    EXPECT_TRUE(guards_intact()) << "memory outside of the registered range was written";
  }
  void responder_ended(Responder&) override {
    EXPECT_FALSE(ended_) << "it ended twice";
    ended_ = true;
  }

  // A new connection in place of the last.
  void connect() {
    int fds[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    client_ = Fd(fds[1]);
    responder_ = std::make_unique<Responder>(*loop_, table_, *this, tls::Connection(Fd(fds[0])),
                                             wire::Hello{}, nullptr);
    ended_ = false;
  }
  void put(std::string_view bytes) {
    ASSERT_EQ(::send(client_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // The connection's turn, as the loop would give it.
  void pump() { responder_->on_events(EPOLLIN | EPOLLOUT); }
  // What was answered until now.
  std::string take() {
    std::string out;
    char buffer[16384];
    for (;;) {
      const ssize_t got = ::recv(client_.get(), buffer, sizeof buffer, 0);
      if (got <= 0) return out;
      out.append(buffer, static_cast<size_t>(got));
    }
  }
  std::string exchange(std::string_view bytes) {
    put(bytes);
    pump();
    return take();
  }

  uint64_t address() { return reinterpret_cast<uint64_t>(memory_.data()) + kGuard; }
  char* bytes() { return memory_.data() + kGuard; }
  std::string memory(size_t offset, size_t length) { return {bytes() + offset, length}; }
  Entry entry(size_t offset, size_t length) {
    return {address() + offset, static_cast<uint32_t>(length), key_};
  }
  bool guards_intact() const {
    const std::string_view all(memory_.data(), memory_.size());
    const auto untouched = [](std::string_view part) {
      return part.find_first_not_of(kUntouched) == std::string_view::npos;
    };
    return untouched(all.substr(0, kGuard)) && untouched(all.substr(kGuard + kSize));
  }

  static constexpr char kUntouched = '\xa5';
  static constexpr uint64_t kInstance = 0x77;

  std::unique_ptr<EventLoop> loop_;
  AccessTable table_;
  AccessKey key_;
  std::vector<char> memory_;
  std::unique_ptr<Responder> responder_;
  Fd client_;
  bool ended_ = false;
};

}  // namespace te::tcp::test
