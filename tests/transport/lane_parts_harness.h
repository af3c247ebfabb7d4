// The parts of a lane that send and receive, at one end of a pair of sockets, without a lane and
// its loop.
//
// One thread.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "transport/fakes.h"
#include "transport/frames.h"
#include "transport/lane_harness.h"
#include "transport/socket_pair.h"
#include "transport/tcp/lane_receiver.h"
#include "transport/tcp/lane_sender.h"

namespace te::tcp::test {

class LanePartsTest : public testing::Test, public LaneOwner {
 protected:
  void start() {
    receiver_.start(sockets_.ours);
    sender_.start(sockets_.ours);
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
  void put(std::string_view bytes) { sockets_.put(bytes); }
  std::string take() { return sockets_.take(); }
  LaneReceiver::Outcome receive() { return receiver_.receive(false); }

  void lane_ready(Lane&) override {}
  void lane_broken(Lane&, Status) override {}
  void lane_blocked() override { ++blocked_; }
  bool careful() override { return careful_; }

  const AccessKey key_ =
      AccessKey::decode(reinterpret_cast<const std::byte*>("IIIIssssssssssssssss"));
  SocketPair sockets_;
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
