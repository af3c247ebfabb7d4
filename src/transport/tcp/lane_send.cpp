// What the sender of a lane does.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "base/guarded_copy.h"
#include "base/log.h"
#include "transport/tcp/lane.h"

namespace te::tcp {
namespace {

constexpr int kMostFaults = 4;  // of a frame whose memory can be read each time that one looks

}  // namespace

bool Lane::enqueue(SliceList& slices, uint64_t bytes) {
  uint64_t count = 0;
  for (const Slice* slice = slices.first; slice != nullptr; slice = slice->next) ++count;
  MutexLock lock(queue_mutex_);
  if (closed_) return false;
  load_.fetch_add(bytes, std::memory_order_relaxed);
  queue_.append(slices);
  queued_.fetch_add(count);
  return true;
}

bool Lane::has_work() const {
  return frame_open_.load() || asking_.load() ||
         (queued_.load() > 0 && tail_.load() - head_sequence_.load() < window_.load());
}

void Lane::flush() {
  // Whoever comes while another sends leaves the work to that one: it looks again after it let go.
  do {
    if (sending_.exchange(true)) return;
    send_all();
    sending_.store(false);
  } while (!blocked_.load() && has_work());
}

void Lane::ask() {
  asking_.store(true);
  flush();
}

void Lane::flush_later() {
  loop_.run([self = shared_from_this()] { self->flush(); });
}

void Lane::send_all() {
  if (blocked_.load()) return;
  for (;;) {
    if (!frame_open_ && !build_frame()) return;
    if (!send_frame()) {
      // Once more after the mark: the edge that tells of room may have come before it.
      blocked_.store(true);
      if (!send_frame()) return owner_.lane_blocked();
      blocked_.store(false);
    }
  }
}

bool Lane::build_frame() {
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  const uint64_t room = window_.load(std::memory_order_relaxed) -
                        (tail - head_sequence_.load(std::memory_order_acquire));
  const size_t limit = std::min<uint64_t>(room, kMaxRequestsPerFrame);
  uint64_t bytes = 0;
  size_t count = 0;
  vector_count_ = 1;
  Opcode opcode = Opcode::kRead;
  {
    MutexLock lock(queue_mutex_);
    while (count < limit && !queue_.empty()) {
      const Slice& next = *queue_.first;
      if (count > 0 && (next.opcode != opcode || bytes + next.length > kFrameBytes)) break;
      opcode = next.opcode;
      bytes += next.length;
      Slice* slice = queue_.pop();
      sent(tail + count) = {slice, slice->length, opcode};
      put_request(count, *slice);
      ++count;
    }
  }
  if (count == 0 && !asking_.exchange(false)) return false;
  queued_.fetch_sub(count);
  finish_head(opcode, count, bytes);
  by_zero_copy_ = opcode == Opcode::kWrite && count > 0 && zero_copy_.takes(bytes, count);
  faults_ = 0;
  tail_.store(tail + count);
  frame_open_.store(true);
  if (vector_count_ > 1 && owner_.careful()) {
    const auto readable = [](const iovec& vector) {
      return is_readable(static_cast<const std::byte*>(vector.iov_base), vector.iov_len);
    };
    const auto begin = vectors_.begin() + 1, end = vectors_.begin() + vector_count_;
    if (!std::all_of(begin, end, readable)) frame_faulted();
  }
  return true;
}

void Lane::put_request(size_t index, const Slice& slice) {
  RequestEntry::encode(head_.data() + RequestHeader::kSize + index * RequestEntry::kSize,
                       slice.remote_address, slice.length, slice.key);
  if (slice.opcode == Opcode::kWrite) vectors_[vector_count_++] = {slice.local, slice.length};
}

void Lane::finish_head(Opcode opcode, size_t count, uint64_t bytes) {
  const bool write = opcode == Opcode::kWrite || count == 0;
  RequestHeader{write ? RequestType::kWrite : RequestType::kRead, static_cast<uint16_t>(count),
                write ? bytes : 0}
      .encode(head_.data());
  vectors_[0] = {head_.data(), RequestHeader::kSize + count * RequestEntry::kSize};
  vector_at_ = 0;
}

// What has to be done needs the receiver's lock, which no sender waits for.
void Lane::frame_faulted() {
  faulted_ = true;
  loop_.run([self = shared_from_this()] {
    {
      MutexLock lock(self->receiving_);
      if (self->phase_ != Phase::kReady) return;
      while (self->sending_.exchange(true)) std::this_thread::yield();
      if (self->faulted_) self->resolve_fault();
      self->sending_.store(false);
    }
    self->room();
  });
}

void Lane::resolve_fault() {
  const bool whole = vector_at_ == 0 && vectors_[0].iov_base == head_.data();
  if (whole && leave_out_unreadable()) {
    faulted_ = false;
    return;
  }
  // What left cannot be taken back, and the rest does not come: so the session ends, and whatever
  // has no part in it is repeated in the next.
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  for (uint64_t i = sent_tail_.load(std::memory_order_relaxed); i < tail; ++i) {
    const Slice& slice = *sent(i).slice;
    if (!is_readable(slice.local, slice.length)) sent(i).refusal = Code::kInvalidArgument;
  }
  owner_.found_unreadable();
  broken(error(Code::kUnavailable, "tcp to {}: the memory of a WRITE under way cannot be read",
               path_->remote_address));
}

// Of a frame that is still whole. False when all of it can be read, again and again.
bool Lane::leave_out_unreadable() {
  const uint64_t first = sent_tail_.load(std::memory_order_relaxed);
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  SliceList unreadable;
  uint64_t bytes = 0;
  size_t count = 0;
  vector_count_ = 1;
  for (uint64_t i = first; i < tail; ++i) {
    Slice* slice = sent(i).slice;
    if (!is_readable(slice->local, slice->length)) {
      unreadable.push(slice);
      continue;
    }
    sent(first + count) = {slice, slice->length, slice->opcode};
    put_request(count++, *slice);
    bytes += slice->length;
  }
  finish_head(Opcode::kWrite, count, bytes);
  by_zero_copy_ = false;
  if (unreadable.empty()) return ++faults_ < kMostFaults;
  tail_.store(first + count);
  grace_below_ = std::min(grace_below_, first + count);
  if (count == 0) vector_at_ = vector_count_;  // nothing is left of it
  while (!unreadable.empty()) {
    Slice* slice = unreadable.pop();
    load_.fetch_sub(slice->length, std::memory_order_relaxed);
    host_.done(slice, Code::kInvalidArgument);
  }
  return true;
}

bool Lane::send_frame() {
  if (faulted_) return false;
  while (vector_at_ < vector_count_) {
    ssize_t sent = send_vectors();
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EFAULT) frame_faulted();
      // The loop learns of a broken connection by its own event.
      return false;
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
  end_frame();
  return true;
}

ssize_t Lane::send_vectors() {
  msghdr message{};
  message.msg_iov = &vectors_[vector_at_];
  message.msg_iovlen = vector_count_ - vector_at_;
  if (by_zero_copy_) return zero_copy_.send(fd_.get(), message, vector_at_ == 0);
  return ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
}

void Lane::end_frame() {
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  if (by_zero_copy_) {
    const uint64_t let_go_below = zero_copy_.end();
    for (uint64_t i = sent_tail_.load(std::memory_order_relaxed); i < tail; ++i) {
      sent(i).let_go_below = let_go_below;
    }
  }
  sent_tail_.store(tail, std::memory_order_release);
  frame_open_.store(false);
}

}  // namespace te::tcp
