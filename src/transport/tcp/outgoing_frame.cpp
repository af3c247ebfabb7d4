#include "transport/tcp/outgoing_frame.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/guarded_copy.h"

namespace te::tcp {

void OutgoingFrame::clear() {
  opcode_ = Opcode::kRead;
  count_ = 0;
  bytes_ = 0;
  by_zero_copy_ = false;
  vector_count_ = 1;
  vector_at_ = 0;
}

void OutgoingFrame::close() {
  const bool write = opcode_ == Opcode::kWrite || count_ == 0;
  RequestHeader{write ? RequestType::kWrite : RequestType::kRead, static_cast<uint16_t>(count_),
                write ? bytes_ : 0}
      .encode(head_.data());
  vectors_[0] = {head_.data(), RequestHeader::kSize + count_ * RequestEntry::kSize};
}

void OutgoingFrame::choose(ZeroCopy& zero_copy) {
  by_zero_copy_ = opcode_ == Opcode::kWrite && count_ > 0 && zero_copy.takes(bytes_, count_);
}

bool OutgoingFrame::readable() const {
  return std::all_of(vectors_.begin() + 1, vectors_.begin() + static_cast<ptrdiff_t>(vector_count_),
                     [](const iovec& vector) {
                       return is_readable(static_cast<const std::byte*>(vector.iov_base),
                                          vector.iov_len);
                     });
}

OutgoingFrame::Outcome OutgoingFrame::send(tls::Connection& to, ZeroCopy& zero_copy) {
  while (vector_at_ < vector_count_) {
    ssize_t sent = send_vectors(to, zero_copy);
    if (sent < 0) {
      if (errno == EINTR) continue;
      return errno == EFAULT ? Outcome::kUnreadable : Outcome::kBlocked;
    }
    while (sent > 0) {
      iovec& vector = vectors_[vector_at_];
      const size_t step = std::min(static_cast<size_t>(sent), vector.iov_len);
      vector.iov_base = static_cast<std::byte*>(vector.iov_base) + step;
      vector.iov_len -= step;
      sent -= static_cast<ssize_t>(step);
      if (vector.iov_len == 0) ++vector_at_;
    }
  }
  return Outcome::kSent;
}

ssize_t OutgoingFrame::send_vectors(tls::Connection& to, ZeroCopy& zero_copy) {
  iovec* const first = &vectors_[vector_at_];
  const size_t count = vector_count_ - vector_at_;
  if (!by_zero_copy_) return to.send(first, count);
  msghdr message{};
  message.msg_iov = first;
  message.msg_iovlen = count;
  return zero_copy.send(to.fd(), message, vector_at_ == 0);
}

}  // namespace te::tcp
