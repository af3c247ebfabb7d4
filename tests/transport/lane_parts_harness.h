// The parts of a lane that send and receive, at one end of a pair of sockets, without a lane and
// its loop.
//
// One thread.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "transport/fakes.h"
#include "transport/frames.h"
#include "transport/lane_harness.h"
#include "transport/tcp/lane_receiver.h"
#include "transport/tcp/lane_sender.h"

namespace te::tcp::test {

class LanePartsTest : public testing::Test, public LaneOwner {
 protected:
  LanePartsTest() {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    ours_ = Fd(fds[0]);
    peers_ = Fd(fds[1]);
  }
  void start() {
    receiver_.start(ours_.get());
    sender_.start(ours_.get());
  }
  Slice& add(Opcode opcode, std::string& local, uint64_t remote_address) {
    all_.push_back(std::make_unique<Request>(opcode, local, remote_address));
    Slice& slice = all_.back()->slice;
    SliceList list;
    list.push(&slice);
    EXPECT_TRUE(requests_.enqueue(list, slice.length));
    return slice;
  }
  void cancel(size_t i) { all_[i]->submission.cancel = Code::kCancelled; }
  void put(std::string_view bytes) {
    ASSERT_EQ(::send(peers_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // What was sent until now.
  std::string take() {
    std::string out;
    char buffer[65536];
    for (;;) {
      const ssize_t got = ::recv(peers_.get(), buffer, sizeof buffer, 0);
      if (got <= 0) return out;
      out.append(buffer, static_cast<size_t>(got));
    }
  }
  LaneReceiver::Outcome receive() { return receiver_.receive(false); }

  void lane_ready(Lane&) override {}
  void lane_broken(Lane&, Status) override {}
  void lane_blocked() override { ++blocked_; }
  bool careful() override { return careful_; }

  const AccessKey key_ =
      AccessKey::decode(reinterpret_cast<const std::byte*>("IIIIssssssssssssssss"));
  Fd ours_, peers_;
  RecordingHost host_;
  std::vector<std::unique_ptr<Request>> all_;
  int blocked_ = 0;
  int unreadable_ = 0;
  bool careful_ = false;
  LaneRequests requests_{host_};
  ZeroCopy zero_copy_;
  LaneSender sender_{requests_, zero_copy_, *this, [this] { ++unreadable_; }};
  LaneReceiver receiver_{requests_, sender_, zero_copy_};
};

}  // namespace te::tcp::test
