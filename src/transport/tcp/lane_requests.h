// The requests of a lane, from enqueue() until they come back. They are queued, then sent in that
// order, then answered. Sent ones are known by their sequence number:
//
//   head()               sent_tail()             tail()
//     │ outstanding          │ frame being sent     │ next
//
// Each slice comes back exactly once. Not more requests are outstanding than the peer allows.
//
// Threads: one at a time is the lane's sender, one its receiver; what is marked so is theirs, the
// rest is for any.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/mutex.h"
#include "core/batch.h"
#include "transport/tcp/frame.h"
#include "transport/tcp/outgoing_frame.h"
#include "transport/transport.h"

namespace te::tcp {

class LaneRequests {
 public:
  // Written by the sender before tail() moves over it, then the receiver's.
  struct Sent {
    Slice* slice = nullptr;  // null: it came back
    uint32_t length = 0;
    Opcode opcode = Opcode::kRead;
    bool answered = false;
    // Of a WRITE that failed while the kernel may hold its memory: it comes back with this.
    Code refusal = Code::kOk;
    uint64_t completed_below = 0;  // see ZeroCopy; set by the sender once all of it left
  };

  explicit LaneRequests(TransportHost& host) : host_(host) {}

  // `bytes` in all. False, and nothing taken, after return_all().
  bool enqueue(SliceList& slices, uint64_t bytes);
  // Bytes handed over and not answered.
  uint64_t load() const { return load_.load(std::memory_order_relaxed); }
  // Whether something is queued and the peer has room for it.
  bool may_send() const {
    return queued_.load() > 0 && tail_.load() - head_.load() < limit_.load();
  }
  // Before anything is sent: how many requests may be outstanding, at most kWindow.
  void set_limit(uint32_t limit) { limit_.store(limit); }

  // How many acknowledgements came, also those of empty requests.
  uint64_t acks() const { return acks_.load(std::memory_order_relaxed); }

  uint64_t head() const { return head_.load(); }
  uint64_t tail() const { return tail_.load(std::memory_order_acquire); }
  uint64_t sent_tail() const { return sent_tail_.load(std::memory_order_acquire); }

  // The sender's.
  // Puts the next queued requests into `frame`, which is empty if there are none.
  void take(OutgoingFrame& frame);
  // The frame has left; see Sent::completed_below.
  void frame_left(uint64_t completed_below);
  // Puts the requests of the frame under way, of which nothing has left, into `frame` again, but
  // for those whose memory cannot be read: they come back. False: all of it can be read. Needs the
  // receiver's lock too.
  bool leave_out_unreadable(OutgoingFrame& frame);
  // Of the frame under way, those whose memory cannot be read are to blame when all come back.
  void blame_unreadable();

  // The receiver's.
  Sent& at(uint64_t sequence) { return ring_[sequence % kWindow]; }
  void answer(Sent& request, Code code);
  void acknowledged() { acks_.fetch_add(1, std::memory_order_relaxed); }
  // How many were answered.
  uint64_t answered() const { return answered_; }
  // A slice comes back, though its request is not answered.
  void give_back(Sent& request, Code code);
  // Moves head() over what is answered.
  void advance_head();
  // Those that are queued and cancelled come back.
  void return_cancelled();
  // Everything comes back, and nothing is taken any more. No sender may be there.
  void return_all(Code code);

 private:
  TransportHost& host_;
  std::atomic<uint64_t> load_{0};

  Mutex queue_mutex_;  // a leaf
  SliceList queue_ TE_GUARDED_BY(queue_mutex_);
  bool closed_ TE_GUARDED_BY(queue_mutex_) = false;
  std::atomic<uint64_t> queued_{0};

  std::atomic<uint32_t> limit_{kWindow};
  std::array<Sent, kWindow> ring_;
  std::atomic<uint64_t> tail_{0};       // moved by the sender
  std::atomic<uint64_t> sent_tail_{0};  // all below left completely; moved by the sender
  std::atomic<uint64_t> head_{0};       // oldest not answered; moved by the receiver
  std::atomic<uint64_t> acks_{0};
  uint64_t answered_ = 0;  // the receiver's
};

}  // namespace te::tcp
