// A frame of requests on its way into a socket: the head, and the memory of the WRITEs, from where
// it lies.
//
// Threads: one at a time, the sender of the lane.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/batch.h"
#include "tls/connection.h"
#include "transport/tcp/frame.h"
#include "transport/tcp/zero_copy.h"

namespace te::tcp {

class OutgoingFrame {
 public:
  enum class Outcome {
    kSent,
    kBlocked,     // the socket is full, or the connection is gone, of which its events tell
    kUnreadable,  // memory of a WRITE cannot be read
  };

  // Begins another one, of no request yet.
  void clear();
  // Whether the slice may be the next request of this frame.
  bool takes(const Slice& slice) const {
    if (count_ == 0) return true;
    return count_ < kMaxRequestsPerFrame && slice.opcode == opcode_ &&
           bytes_ + slice.length <= kFrameBytes;
  }
  void add(const Slice& slice) {
    RequestEntry::encode(head_.data() + RequestHeader::kSize + count_ * RequestEntry::kSize,
                         slice.remote_address, slice.length, slice.key);
    if (slice.opcode == Opcode::kWrite) vectors_[vector_count_++] = {slice.local, slice.length};
    opcode_ = slice.opcode;
    bytes_ += slice.length;
    ++count_;
  }
  size_t count() const { return count_; }
  // No request follows. Nothing of it is sent before.
  void close();

  // Sends large WRITEs without a copy, where `zero_copy` finds that to pay.
  void choose(ZeroCopy& zero_copy);
  bool by_zero_copy() const { return by_zero_copy_; }

  // As much as the socket takes.
  Outcome send(tls::Connection& to, ZeroCopy& zero_copy);
  // Nothing is left of it to send.
  void drop() { vector_at_ = vector_count_; }
  // Nothing of it has left.
  bool whole() const { return vector_at_ == 0 && vectors_[0].iov_base == head_.data(); }
  // Of WRITEs.
  bool has_memory() const { return vector_count_ > 1; }
  // Whether all of that memory can be read now.
  bool readable() const;

 private:
  ssize_t send_vectors(tls::Connection& to, ZeroCopy& zero_copy);

  Opcode opcode_ = Opcode::kRead;
  size_t count_ = 0;
  uint64_t bytes_ = 0;
  bool by_zero_copy_ = false;
  size_t vector_count_ = 0;
  size_t vector_at_ = 0;  // the first that has not left completely; it holds what is left
  std::array<iovec, 1 + kMaxRequestsPerFrame> vectors_;
  std::array<std::byte, kMaxFrameHead> head_;
};

}  // namespace te::tcp
