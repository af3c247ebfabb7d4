#include "transport/tcp/lane.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "base/clock.h"
#include "base/log.h"
#include "transport/tcp/liveness.h"

namespace te::tcp {
namespace {

constexpr size_t kTurnBytes = 8 << 20;  // then other connections of the loop have their turn
// Packets of a connection that ended may wait in a queue of the kernel, and hold memory that was
// sent without a copy: it is waited for, this long at most.
constexpr int64_t kQuietMs = 2000;
constexpr int64_t kQuietCheckMs = 1;
// A WRITE under way that is wanted back may finish within this; its deadline has passed.
constexpr int64_t kGraceNs = 15 * kNsPerMs;
// How often the kernel may send the same again, with twice the pause each time, without being
// heard: some 0.6 s where a task timed out meanwhile, 3 s where none did.
constexpr unsigned kUnheardAtDeadline = 2;
constexpr unsigned kUnheard = 4;

}  // namespace

void Lane::on_events(uint32_t events) {
  const std::shared_ptr<Lane> self = shared_from_this();
  bool greeted = false;
  {
    MutexLock lock(receiving_);
    if (phase_ >= Phase::kBroken) return;
    // Notifications raise EPOLLERR too; where it means an error, another of them comes with it.
    if ((events & EPOLLERR) != 0 && !zero_copy_.enabled()) hangup_ = true;
    if ((events & (EPOLLRDHUP | EPOLLHUP)) != 0) hangup_ = true;
    if (phase_ <= Phase::kHello) {
      if (phase_ == Phase::kConnecting && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) == 0) return;
      continue_hello();
      if (phase_ != Phase::kReady) return;
      greeted = true;
    }
  }
  if ((events & EPOLLOUT) != 0) room();
  // Room alone says nothing of answers, which a caller may be taking.
  if (events == EPOLLOUT && !greeted) return;
  const uint64_t head = head_sequence_.load();
  {
    MutexLock lock(receiving_);
    if (phase_ == Phase::kReady && receive()) loop_.again(this);
  }
  // Room in the window: what waited for it can go.
  if (head_sequence_.load() != head) continue_sending();
}

void Lane::continue_sending() {
  if (!blocked_.load() && has_work()) flush();
}

// Whether there may be more.
bool Lane::receive() {
  size_t taken = 0;
  if (zero_copy_.outstanding()) {
    zero_copy_.take_notifications(fd_.get());
    finish_writes();
  }
  if (!parse()) return false;
  for (;;) {
    const Stream::Outcome outcome = stream_.receive(fd_.get());
    taken += stream_.received();
    if (outcome == Stream::Outcome::kFailed) {
      broken(lost(*path_, errno_text(errno)));
      return false;
    }
    if (outcome == Stream::Outcome::kClosed) {
      broken(lost(*path_, "the peer closed the connection"));
      return false;
    }
    if (stream_.received() > 0 && !parse()) return false;
    if (outcome == Stream::Outcome::kDrained && !(hangup_ && stream_.received() > 0)) return false;
    if (taken >= kTurnBytes) return true;
  }
}

bool Lane::parse() {
  for (;;) {
    if (payload_count_ > 0) {
      stream_.copy_buffered();
      finish_payload();
      if (payload_count_ > 0) return true;
    }
    if (stream_.buffered().size() < AnswerHeader::kSize) return true;
    const AnswerHeader header = AnswerHeader::decode(stream_.buffered().data());
    stream_.consume(AnswerHeader::kSize);
    bool understood = false;
    switch (header.type) {
      case AnswerType::kAck:
        understood = on_ack(header.sequence);
        break;
      case AnswerType::kData:
        understood = on_data(header);
        break;
      case AnswerType::kError:
        understood = on_error(header);
        break;
    }
    if (!understood) {
      broken(error(Code::kUnavailable, "tcp to {}: the peer answered what was not asked",
                   path_->remote_address));
      return false;
    }
  }
}

// Whether all requests below `sequence` have left. An answer may be faster than the sender's note
// of it, so that one is waited for: it never blocks.
bool Lane::left_completely(uint64_t sequence) {
  if (sequence <= sent_tail_.load(std::memory_order_acquire)) return true;
  while (sending_.exchange(true)) std::this_thread::yield();
  const bool left = sequence <= sent_tail_.load(std::memory_order_acquire);
  sending_.store(false);
  continue_sending();
  return left;
}

bool Lane::on_ack(uint64_t sequence) {
  if (!left_completely(sequence)) return false;
  acks_.fetch_add(1, std::memory_order_relaxed);
  acked_ = std::max(acked_, sequence);
  finish_writes();
  return true;
}

// Gives back the WRITEs that are in place, as far as the kernel let go of their memory. That is
// usually told before the answer comes, but a copy of a packet may still be in some queue.
void Lane::finish_writes() {
  for (; ack_cursor_ < acked_; ++ack_cursor_) {
    Sent& request = sent(ack_cursor_);
    if (request.opcode != Opcode::kWrite || request.answered) continue;
    if (!zero_copy_.let_go(fd_.get(), request.let_go_below)) break;
    answer(request, request.refusal);
  }
  advance_head();
}

bool Lane::on_data(const AnswerHeader& header) {
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  const uint64_t head = head_sequence_.load(std::memory_order_relaxed);
  if (header.count == 0 || header.count > kWindow || header.sequence < head ||
      header.sequence > tail || tail - header.sequence < header.count) {
    return false;
  }
  std::vector<Stream::Piece>& pieces = stream_.start_payload();
  for (uint32_t i = 0; i < header.count; ++i) {
    const Sent& request = sent(header.sequence + i);
    if (request.opcode != Opcode::kRead || request.answered) return false;
    pieces.push_back({request.slice != nullptr ? request.slice->local : nullptr, request.length});
  }
  payload_first_ = header.sequence;
  payload_count_ = header.count;
  return true;
}

// Answers the READs whose bytes are all there.
void Lane::finish_payload() {
  const size_t filled = stream_.filled_pieces();
  const uint64_t total = filled + stream_.open_pieces().size();
  while (payload_count_ > 0 && total - payload_count_ < filled) {
    const bool faulted = stream_.faulted(total - payload_count_);
    answer(sent(payload_first_), faulted ? Code::kInvalidArgument : Code::kOk);
    ++payload_first_;
    --payload_count_;
  }
  advance_head();
}

bool Lane::on_error(const AnswerHeader& header) {
  if (header.sequence < head_sequence_.load(std::memory_order_relaxed) ||
      header.sequence >= tail_.load(std::memory_order_acquire) || header.code == Code::kOk ||
      header.code == Code::kUnavailable) {
    return false;
  }
  Sent& request = sent(header.sequence);
  if (request.answered || request.refusal != Code::kOk) return false;
  if (!left_completely(header.sequence + 1)) return false;
  // That one would blame this side.
  const Code code = header.code == Code::kInvalidArgument ? Code::kInternal : header.code;
  if (zero_copy_.let_go(fd_.get(), request.let_go_below)) {
    answer(request, code);
    advance_head();
  } else {
    request.refusal = code;  // it ends with the frame's acknowledgement
  }
  return true;
}

void Lane::answer(Sent& request, Code code) {
  request.answered = true;
  ++answered_count_;
  Slice* slice = request.slice;
  request.slice = nullptr;
  load_.fetch_sub(request.length, std::memory_order_relaxed);
  if (slice != nullptr) host_.done(slice, code);
}

void Lane::advance_head() {
  uint64_t head = head_sequence_.load(std::memory_order_relaxed);
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  while (head < tail && sent(head).answered) ++head;
  head_sequence_.store(head);
  ack_cursor_ = std::max(ack_cursor_, head);
}

void Lane::broken(Status why) {
  // Nothing that the peer still sends counts from here on.
  if (phase_ >= Phase::kBroken) return;
  phase_ = Phase::kBroken;
  owner_.lane_broken(*this, std::move(why));
}

void Lane::listen_for(uint32_t events) {
  MutexLock lock(receiving_);
  if (phase_ != Phase::kReady) return;
  loop_.change(fd_.get(), EPOLLRDHUP | events, this);
}

void Lane::room() {
  blocked_.store(false);
  flush();
}

bool Lane::take_answers() {
  if (!receiving_.try_lock()) return false;
  const uint64_t head = head_sequence_.load();
  const uint64_t before = answered_count_;
  if (phase_ == Phase::kReady) receive();
  const bool news = answered_count_ != before || phase_ != Phase::kReady;
  receiving_.unlock();
  if (head_sequence_.load() != head) continue_sending();
  return news;
}

void Lane::give_back_queued() {
  SliceList cancelled;
  {
    MutexLock lock(queue_mutex_);
    SliceList rest;
    while (!queue_.empty()) {
      Slice* slice = queue_.pop();
      if (slice->cancelled()) {
        queued_.fetch_sub(1);
        load_.fetch_sub(slice->length, std::memory_order_relaxed);
        cancelled.push(slice);
      } else {
        rest.push(slice);
      }
    }
    queue_ = rest;
  }
  while (!cancelled.empty()) host_.done(cancelled.pop(), Code::kCancelled);
}

void Lane::sweep() {
  loop_.run([self = shared_from_this()] {
    MutexLock lock(self->receiving_);
    if (self->phase_ != Phase::kReady) return;
    self->give_back_queued();
    if (!self->sweep_sent()) {
      self->broken(
          lost(*self->path_, "a WRITE under way was given up, so the connection is ended"));
    }
  });
}

// READs under way are given up: their bytes will go nowhere. A WRITE under way reads local memory,
// and may still arrive: it is given a moment, then the connection must end.
bool Lane::sweep_sent() {
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  constexpr uint64_t kNone = UINT64_MAX;
  uint64_t first_write = kNone;
  bool given_up = false;
  for (uint64_t i = head_sequence_.load(std::memory_order_relaxed); i < tail; ++i) {
    Sent& request = sent(i);
    if (request.slice == nullptr || !request.slice->cancelled()) continue;
    if (request.opcode == Opcode::kWrite) {
      first_write = std::min(first_write, i);
      continue;
    }
    if (payload_count_ > 0 && i >= payload_first_ && i < payload_first_ + payload_count_) {
      // The pieces that are open are those of the last requests of the frame.
      const std::span<Stream::Piece> open = stream_.open_pieces();
      const uint64_t from_end = payload_first_ + payload_count_ - i;
      if (from_end <= open.size()) open[open.size() - from_end].to = nullptr;
    }
    Slice* slice = request.slice;
    request.slice = nullptr;
    given_up = true;
    host_.done(slice, Code::kCancelled);
  }
  if (first_write != kNone) return may_finish(first_write, tail);
  return !given_up || !unheard(fd_.get(), kUnheardAtDeadline);
}

bool Lane::may_finish(uint64_t first, uint64_t tail) {
  const int64_t now = now_ns();
  if (first >= grace_below_) {
    grace_below_ = tail;
    grace_until_ns_ = now + kGraceNs;
  }
  return now < grace_until_ns_;
}

void Lane::check_alive() {
  loop_.run([self = shared_from_this()] {
    MutexLock lock(self->receiving_);
    if (self->phase_ != Phase::kReady || !unheard(self->fd_.get(), kUnheard)) return;
    self->broken(lost(*self->path_, "the peer's machine does not acknowledge anything any more"));
  });
}

void Lane::fail(Code code) {
  loop_.run([self = shared_from_this(), code] {
    MutexLock lock(self->receiving_);
    self->close(code);
  });
}

void Lane::close(Code code) {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  if (fd_.valid()) loop_.remove(fd_.get(), this);
  // Senders never block, so the flag is free soon; held from here on, it keeps them out.
  while (sending_.exchange(true)) std::this_thread::yield();
  // Wakes the caller that sleeps on it.
  descriptor_.store(-1);
  if (fd_.valid()) ::shutdown(fd_.get(), SHUT_RDWR);
  if (zero_copy_.outstanding()) {
    // Closed, it would send from that memory until all is acknowledged, and tell nobody. So what is
    // not acknowledged is thrown away, by a reset.
    const sockaddr none{.sa_family = AF_UNSPEC, .sa_data = {}};
    (void)::connect(fd_.get(), &none, sizeof none);
  }
  close_when_quiet(code, deadline_after_ms(now_ns(), kQuietMs));
}

void Lane::close_when_quiet(Code code, int64_t until_ns) {
  const bool quiet = zero_copy_.quiet(fd_.get());
  if (!quiet && now_ns() < until_ns) {
    loop_.run_after(kQuietCheckMs, [self = shared_from_this(), code, until_ns] {
      MutexLock lock(self->receiving_);
      self->close_when_quiet(code, until_ns);
    });
    return;
  }
  if (!quiet) {
    static LogLimit limit;
    log_limited(
        limit, LogLevel::kWarning,
        "tcp to {}: the connection ended {} ms ago, but packets of it still wait to be sent; they "
        "may carry what their memory is used for next, in place of WRITEs that were given up",
        path_->remote_address, kQuietMs);
  }
  fd_.reset();
  return_everything(code);
  zero_copy_.close();
}

void Lane::return_everything(Code code) {
  SliceList returned, refused;
  {
    MutexLock lock(queue_mutex_);
    closed_ = true;
    returned = queue_;
    queue_ = {};
    queued_.store(0);
  }
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  for (uint64_t i = head_sequence_.load(std::memory_order_relaxed); i < tail; ++i) {
    Slice* slice = sent(i).slice;
    sent(i).slice = nullptr;
    if (slice == nullptr) continue;
    (sent(i).refusal == Code::kInvalidArgument ? refused : returned).push(slice);
  }
  head_sequence_.store(tail);
  load_.store(0);
  while (!returned.empty()) host_.done(returned.pop(), code);
  while (!refused.empty()) host_.done(refused.pop(), Code::kInvalidArgument);
}

}  // namespace te::tcp
