// Sends the requests of a lane, in frames, as its socket takes them.
//
// Threads: any, unless stated. Whoever finds nobody sending is the sender, and looks again once it
// is not, so a request usually leaves from the thread that posted it. Nobody waits to send.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "transport/tcp/lane_owner.h"
#include "transport/tcp/lane_requests.h"
#include "transport/tcp/outgoing_frame.h"
#include "transport/tcp/zero_copy.h"

namespace te::tcp {

class LaneSender {
 public:
  // `unreadable`: the memory of a frame cannot be read, and nothing is sent until resolve_fault().
  LaneSender(LaneRequests& requests, ZeroCopy& zero_copy, LaneOwner& owner,
             std::function<void()> unreadable)
      : requests_(requests),
        zero_copy_(zero_copy),
        owner_(owner),
        unreadable_(std::move(unreadable)) {}

  // Once: the peer takes requests on `connection`.
  void start(tls::Connection& connection);
  // Once, for the end: nothing is sent any more when this returns.
  void stop();

  void flush();
  // Flushes if there is something to send and room for it.
  void continue_sending() {
    if (!blocked() && has_work()) flush();
  }
  // Sends an empty request, once nothing else waits to be sent.
  void ask();
  // The socket is full, or start() has not been called; what waits to be sent waits for room().
  bool blocked() const { return blocked_.load(); }
  // There is room: goes on sending.
  void room();

  // The receiver's.
  // Whether all requests below `sequence` have left. An answer may be faster than the sender's note
  // of it, so that one is waited for: it never blocks.
  bool left_completely(uint64_t sequence);
  // After `unreadable`. Requests whose memory cannot be read come back, and the rest of the frame
  // can be sent. False: some of it has left, so the lane has to break; they come back with it.
  bool resolve_fault();

 private:
  void send_all();
  bool build_frame();  // false: there is nothing to send
  bool send_frame();   // false: it waits for room() or resolve_fault()
  void faulted();
  bool has_work() const { return frame_open_.load() || asking_.load() || requests_.may_send(); }
  void await_sender();

  LaneRequests& requests_;
  ZeroCopy& zero_copy_;
  LaneOwner& owner_;
  const std::function<void()> unreadable_;

  std::atomic<bool> sending_{false};  // who set it is the sender
  std::atomic<bool> blocked_{true};
  std::atomic<bool> asking_{false};
  std::atomic<bool> frame_open_{false};
  // The sender's.
  tls::Connection* connection_ = nullptr;
  OutgoingFrame frame_;
  bool faulted_ = false;
  int faults_ = 0;  // of this frame
};

}  // namespace te::tcp
