// A Lane on a loop of its own, and the peer that it talks to, which the test plays.
//
// The peer and everything here is the test's thread; what the lane reports comes from its loop.
#pragma once

#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "transport/fakes.h"
#include "transport/frames.h"
#include "transport/tcp/lane.h"

namespace te::tcp::test {

using te::test::NullTransport;
using te::test::RecordingHost;

// A name in the abstract namespace: no file, no port, gone with its socket.
inline SocketAddress fresh_address() {
  static std::atomic<int> count{0};
  SocketAddress address;
  auto* name = reinterpret_cast<sockaddr_un*>(address.get());
  name->sun_family = AF_UNIX;
  const std::string text = "te-lane-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
  text.copy(name->sun_path + 1, text.size());
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  return address;
}

// One slice with the task that it belongs to.
struct Request {
  Request(Opcode opcode, std::string& local, uint64_t remote_address) {
    task.submission = &submission;
    slice.task = &task;
    slice.opcode = opcode;
    slice.local = reinterpret_cast<std::byte*>(local.data());
    slice.length = static_cast<uint32_t>(local.size());
    slice.remote_address = remote_address;
    slice.key = reinterpret_cast<const std::byte*>("IIIIssssssssssssssss");
  }
  Submission submission;
  Task task;
  Slice slice;
};

class LaneTest : public testing::Test, public LaneOwner {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<EventLoop>> loop = EventLoop::create("te-test");
    ASSERT_TRUE(loop.ok()) << loop.status().to_string();
    loop_ = loop.take();
    EXPECT_TRUE(loop_->start().ok());
    address_ = fresh_address();
    listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(listener_.get(), address_.get(), address_.length), 0);
    ASSERT_EQ(::listen(listener_.get(), 8), 0);
    make_lane();
  }
  void TearDown() override {
    lane_->fail(Code::kCancelled);
    loop_->stop();
  }

  void make_lane(uint64_t connect_timeout_ms = 60'000) {
    lane_ = std::make_shared<Lane>(*loop_, host_,
                                   std::make_shared<Path>(transport_, "", "", "the peer"), *this,
                                   LaneOptions{connect_timeout_ms, 60'000});
  }
  // Connected, the hello read.
  void connect() {
    lane_->connect(address_, hello_);
    accept_peer();
  }
  void accept_peer() {
    pollfd entry{listener_.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&entry, 1, 20'000), 1);
    peer_ = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(peer_.valid());
    const auto expected = hello_.encode();
    ASSERT_EQ(take(expected.size()), std::string(expected.begin(), expected.end()));
  }
  void answer_hello(Code code = Code::kOk) {
    wire::HelloAnswer answer;
    answer.code = code;
    answer.window = kWindow;
    const auto bytes = answer.encode();
    put({bytes.data(), bytes.size()});
  }
  void make_ready() {
    connect();
    answer_hello();
    ASSERT_TRUE(wait_until([this] { return ready_.load(); }));
    settle();  // the loop sends what it finds when it leaves the lane
  }

  // The peer's side.
  void put(std::string_view bytes) {
    ASSERT_EQ(::send(peer_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // Exactly `length` bytes, or what came within the time.
  std::string take(size_t length) {
    std::string out(length, '\0');
    size_t got = 0;
    while (got < length) {
      pollfd entry{peer_.get(), POLLIN, 0};
      if (::poll(&entry, 1, 20'000) != 1) break;
      const ssize_t n = ::recv(peer_.get(), out.data() + got, length - got, 0);
      if (n <= 0) break;
      got += static_cast<size_t>(n);
    }
    out.resize(got);
    return out;
  }
  // Until the lane took everything that was put, and finished its turn.
  void settle() {
    wait_until([this] {
      int unread = 0;
      return ::ioctl(peer_.get(), SIOCOUTQ, &unread) != 0 || unread == 0;
    });
    turn();
  }
  // Until the loop has been through a turn that began after this call.
  void turn() {
    for (int i = 0; i < 2; ++i) {
      std::atomic<bool> done{false};
      if (!loop_->run([&done] { done = true; })) return;
      wait_until([&done] { return done.load(); });
    }
  }
  template <typename Condition>
  bool wait_until(Condition condition) {
    const int64_t until_ns = now_ns() + 20'000 * kNsPerMs;
    while (!condition()) {
      if (now_ns() > until_ns) return false;
      std::this_thread::yield();
    }
    return true;
  }

  Slice& submit(Opcode opcode, std::string& local, uint64_t remote_address = 0x1000) {
    requests_.push_back(std::make_unique<Request>(opcode, local, remote_address));
    Slice& slice = requests_.back()->slice;
    SliceList list;
    list.push(&slice);
    EXPECT_TRUE(lane_->enqueue(list, slice.length));
    return slice;
  }
  void cancel(size_t request) { requests_[request]->submission.cancel = Code::kCancelled; }

  void lane_ready(Lane&) override { ready_ = true; }
  void lane_broken(Lane& lane, Status why) override {
    {
      MutexLock lock(mutex_);
      why_ = std::move(why);
    }
    ++broken_;
    if (fail_when_broken_) lane.fail(Code::kUnavailable);
  }
  Status why() {
    MutexLock lock(mutex_);
    return why_;
  }
  void expect_broken(std::string_view says) {
    EXPECT_TRUE(wait_until([this] { return broken_ > 0; }));
    EXPECT_NE(why().message().find(says), std::string::npos) << why().to_string();
  }

  NullTransport transport_;
  RecordingHost host_;
  std::unique_ptr<EventLoop> loop_;
  wire::Hello hello_{.kind = wire::ChannelKind::kTcpData, .lane = 1, .session = 5, .epoch = 6};
  SocketAddress address_;
  Fd listener_, peer_;
  std::shared_ptr<Lane> lane_;
  std::vector<std::unique_ptr<Request>> requests_;
  std::atomic<bool> ready_{false};
  std::atomic<int> broken_{0};
  std::atomic<bool> fail_when_broken_{true};
  Mutex mutex_;
  Status why_ TE_GUARDED_BY(mutex_);
};

}  // namespace te::tcp::test
