#include "transport/tcp/responder.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "base/clock.h"
#include "base/guarded_copy.h"
#include "base/log.h"

namespace te::tcp {
namespace {

constexpr size_t kTurnBytes = 8 << 20;     // then other connections of the loop have their turn
constexpr uint64_t kAckBytes = 512 << 10;  // received, before an answer goes out in mid-stream
constexpr size_t kMaxSmall = 64 << 10;     // of answers waiting; then nothing more is received
constexpr size_t kMaxReadsPerAnswer = 64;

// The call for one vector is the cheaper one.
ssize_t send_vectors(int fd, iovec* vectors, size_t count) {
  if (count == 1) return ::send(fd, vectors[0].iov_base, vectors[0].iov_len, MSG_NOSIGNAL);
  msghdr message{};
  message.msg_iov = vectors;
  message.msg_iovlen = count;
  return ::sendmsg(fd, &message, MSG_NOSIGNAL);
}

}  // namespace

Responder::Responder(EventLoop& loop, AccessTable& table, ResponderOwner& owner, Fd connection,
                     const wire::Hello& hello, std::shared_ptr<void> permit)
    : loop_(loop),
      table_(table),
      owner_(owner),
      fd_(std::move(connection)),
      peer_(peer_address(fd_.get())),
      hello_(hello),
      permit_(std::move(permit)) {
  progress_ns_.store(now_ns(), std::memory_order_relaxed);
}

Responder::~Responder() {
  if (admitted_ && fd_.valid()) loop_.remove(fd_.get(), this);
}

void Responder::end(std::string_view why) {
  if (ended_) return;
  ended_ = true;
  if (!why.empty()) {
    static LogLimit limit;
    log_limited(limit, LogLevel::kInfo, "tcp from {}: {}", peer_.to_string(), why);
  }
  owner_.responder_ended(*this);
}

void Responder::admit(uint64_t instance) {
  if (ended_ || admitted_) return;
  wire::HelloAnswer answer;
  answer.instance = instance;
  answer.window = kWindow;
  const auto bytes = answer.encode();
  small_.append(bytes.data(), bytes.size());
  admitted_ = true;
  if (Status status = loop_.add(fd_.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP, this); !status.ok()) {
    return end(status.message());
  }
  flush();
}

void Responder::refuse(uint64_t instance, Code code) {
  wire::HelloAnswer answer;
  answer.instance = instance;
  answer.code = code;
  const auto bytes = answer.encode();
  (void)!::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  end("refused its hello");
}

void Responder::end_if_stalled(int64_t before_ns) {
  const bool in_the_middle = writing_ || !stream_.buffered().empty() || answer_open_;
  if (in_the_middle && used_ns() < before_ns) {
    end("it stopped in the middle of a frame (stall_timeout_ms)");
  }
}

void Responder::end_if_idle(int64_t before_ns) {
  // What has arrived is not thrown away.
  if (admitted_ && !ended_) receive();
  const bool idle = admitted_ && !ended_ && !writing_ && stream_.buffered().empty() &&
                    reads_.empty() && small_.empty() && !answer_open_;
  if (idle && used_ns() < before_ns) end("it was idle, and another needs its place");
}

void Responder::on_events(uint32_t events) {
  if (ended_) return;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) hangup_ = true;
  if (!flush()) return;
  receive();
}

bool Responder::poll() { return !ended_ && receive(); }

bool Responder::output_full() const { return small_.size() > kMaxSmall; }

bool Responder::receive() {
  size_t taken = 0;
  bool more = true;
  while (!output_full()) {
    const Stream::Outcome outcome = receive_pinned();
    taken += stream_.received();
    if (outcome == Stream::Outcome::kFailed || outcome == Stream::Outcome::kClosed) {
      end(outcome == Stream::Outcome::kFailed ? errno_text(errno) : "");
      return true;
    }
    if (stream_.received() > 0) {
      progress_ns_.store(now_ns(), std::memory_order_relaxed);
      if (!parse()) return true;
    }
    more = outcome != Stream::Outcome::kDrained || (hangup_ && stream_.received() > 0);
    if (!more) break;
    if (unacked_bytes_ >= kAckBytes && !flush()) return true;
    if (taken >= kTurnBytes) break;
  }
  // No event tells of what was left unread for want of room or time.
  if (taken > 0 && flush() && more && !output_full()) loop_.again(this);
  return taken > 0;
}

void Responder::pin_open_pieces() {
  const std::span<Stream::Piece> open = stream_.open_pieces();
  const size_t first = frame_.size() - open.size();
  for (size_t i = 0; i < open.size(); ++i) {
    if (open[i].to == nullptr) continue;
    Request& write = frame_[first + i];
    const AccessKey& key = write.entry.key;
    if (!pins_.empty() && pins_.back().index == key.index && pins_.back().secret == key.secret) {
      continue;
    }
    write.code = table_.acquire(key, write.entry.address, write.entry.length, Rights::kWrite);
    if (write.code == Code::kOk) {
      pins_.push_back(key);
    } else {
      open[i].to = nullptr;
    }
  }
}

void Responder::unpin_pieces() {
  for (const AccessKey& key : pins_) table_.release(key);
  pins_.clear();
}

Stream::Outcome Responder::receive_pinned() {
  if (stream_.in_payload()) pin_open_pieces();
  const Stream::Outcome outcome = stream_.receive(fd_.get());
  unpin_pieces();
  return outcome;
}

void Responder::copy_buffered_pinned() {
  if (stream_.in_payload() && !stream_.buffered().empty()) {
    pin_open_pieces();
    stream_.copy_buffered();
    unpin_pieces();
  }
}

bool Responder::parse() {
  for (;;) {
    if (writing_) {
      copy_buffered_pinned();
      if (stream_.in_payload()) return true;
      finish_write();
    }
    const std::span<const std::byte> bytes = stream_.buffered();
    if (bytes.size() < RequestHeader::kSize) return true;
    const RequestHeader header = RequestHeader::decode(bytes.data());
    if (!header.valid()) {
      end("it sent a frame that cannot be understood");
      return false;
    }
    if (bytes.size() < RequestHeader::kSize + header.count * RequestEntry::kSize) return true;
    stream_.consume(RequestHeader::kSize);
    if (!start_frame(header)) return false;
  }
}

bool Responder::start_frame(const RequestHeader& header) {
  frame_.clear();
  uint64_t total = 0;
  for (uint16_t i = 0; i < header.count; ++i) {
    Request request;
    request.entry = RequestEntry::decode(stream_.buffered().data());
    request.sequence = next_sequence_++;
    stream_.consume(RequestEntry::kSize);
    if (request.entry.length == 0 || request.entry.length > kMaxRequestLength) {
      end("it sent a request of a length that is not allowed");
      return false;
    }
    total += request.entry.length;
    request.code =
        table_.acquire(request.entry.key, request.entry.address, request.entry.length,
                       header.type == RequestType::kWrite ? Rights::kWrite : Rights::kRead);
    if (request.code == Code::kOk) table_.release(request.entry.key);
    frame_.push_back(request);
  }
  if (header.type == RequestType::kWrite) {
    if (total != header.payload) {
      end("it sent a frame whose lengths contradict each other");
      return false;
    }
    start_write();
    unacked_bytes_ += total;
    return true;
  }
  if (reads_.size() + header.count > kWindow) {
    end("it asked for more than the window allows");
    return false;
  }
  start_reads();
  return true;
}

void Responder::start_write() {
  std::vector<Stream::Piece>& pieces = stream_.start_payload();
  for (const Request& write : frame_) {
    // The address was checked against the key's range just now, and is again at every access.
    pieces.push_back(
        {write.code == Code::kOk ? reinterpret_cast<std::byte*>(write.entry.address) : nullptr,
         write.entry.length});
  }
  writing_ = true;
}

void Responder::start_reads() {
  for (const Request& request : frame_) {
    if (request.code == Code::kOk) {
      reads_.push_back(request);
    } else {
      append_small({AnswerType::kError, request.code, 1, request.sequence});
    }
  }
}

void Responder::finish_write() {
  writing_ = false;
  for (size_t i = 0; i < frame_.size(); ++i) {
    Request& write = frame_[i];
    if (write.code == Code::kOk && stream_.faulted(i)) write.code = Code::kPermission;
    if (write.code != Code::kOk) append_small({AnswerType::kError, write.code, 1, write.sequence});
  }
  ack_due_ = true;
  ack_sequence_ = next_sequence_;
}

void Responder::append_small(const AnswerHeader& header) {
  const size_t at = small_.size();
  small_.resize(at + AnswerHeader::kSize);
  header.encode(reinterpret_cast<std::byte*>(small_.data()) + at);
}

bool Responder::flush() {
  while (answer_open_ || build_answer()) {
    bool full = false;
    if (!send_answer(&full)) return false;
    if (full) return true;
  }
  return true;
}

// Refuses those of the first `count` READs whose memory cannot be read. True if there were any.
bool Responder::refuse_unreadable(size_t count) {
  const auto unreadable = [this](const Request& read) {
    const RequestEntry& entry = read.entry;
    Code code = table_.acquire(entry.key, entry.address, entry.length, Rights::kRead);
    if (code == Code::kOk) {
      const auto* begin = reinterpret_cast<const std::byte*>(entry.address);
      if (!is_readable(begin, entry.length)) code = Code::kPermission;
      table_.release(entry.key);
    }
    if (code != Code::kOk) append_small({AnswerType::kError, code, 1, read.sequence});
    return code != Code::kOk;
  };
  const auto end = reads_.begin() + static_cast<ptrdiff_t>(count);
  const auto kept = std::remove_if(reads_.begin(), end, unreadable);
  const bool any = kept != end;
  reads_.erase(kept, end);
  return any;
}

bool Responder::build_answer() {
  if (owner_.careful()) refuse_unreadable(std::min(reads_.size(), kMaxReadsPerAnswer));
  if (ack_due_) {
    append_small({AnswerType::kAck, Code::kOk, 0, ack_sequence_});
    ack_due_ = false;
    unacked_bytes_ = 0;
  }
  head_.clear();
  head_.swap(small_);
  head_sent_ = 0;
  answer_reads_ = 0;
  answer_sent_ = 0;
  answer_bytes_ = 0;
  while (answer_reads_ < reads_.size() && answer_reads_ < kMaxReadsPerAnswer) {
    const Request& read = reads_[answer_reads_];
    if (answer_reads_ > 0 && (read.sequence != reads_[answer_reads_ - 1].sequence + 1 ||
                              answer_bytes_ + read.entry.length > kFrameBytes)) {
      break;
    }
    answer_bytes_ += read.entry.length;
    ++answer_reads_;
  }
  if (answer_reads_ > 0) {
    const size_t at = head_.size();
    head_.resize(at + AnswerHeader::kSize);
    AnswerHeader{AnswerType::kData, Code::kOk, static_cast<uint32_t>(answer_reads_),
                 reads_.front().sequence}
        .encode(reinterpret_cast<std::byte*>(head_.data()) + at);
  }
  answer_open_ = !head_.empty();
  return answer_open_;
}

// After the kernel could not read what an answer promises. False: ended, because some of it left.
bool Responder::leave_out_unreadable() {
  if (head_sent_ == 0 && answer_sent_ == 0) {
    head_.resize(head_.size() - AnswerHeader::kSize);
    small_.insert(0, head_);
    if (refuse_unreadable(answer_reads_)) {
      build_answer();
      return true;
    }
  }
  owner_.found_unreadable();
  end("memory that it asked for cannot be read: was it unmapped, protected, or its file "
      "truncated?");
  return false;
}

bool Responder::send_answer(bool* full) {
  while (head_sent_ < head_.size() || answer_sent_ < answer_bytes_) {
    iovec vectors[1 + kMaxReadsPerAnswer];
    size_t count = 0;
    if (head_sent_ < head_.size()) {
      vectors[count++] = {head_.data() + head_sent_, head_.size() - head_sent_};
    }
    uint64_t skip = answer_sent_;
    bool gone = false;
    for (size_t i = 0; i < answer_reads_ && !gone; ++i) {
      const RequestEntry& entry = reads_[i].entry;
      if (skip >= entry.length) {
        skip -= entry.length;
        continue;
      }
      gone = table_.acquire(entry.key, entry.address, entry.length, Rights::kRead) != Code::kOk;
      if (gone) break;
      pins_.push_back(entry.key);
      vectors[count++] = {reinterpret_cast<std::byte*>(entry.address) + skip, entry.length - skip};
      skip = 0;
    }
    if (gone) {
      unpin_pieces();
      // The bytes that were promised cannot come; the peer asks again and hears why.
      end("a buffer was unregistered while it was read");
      return false;
    }
    const ssize_t sent = send_vectors(fd_.get(), vectors, count);
    const int failure = errno;
    unpin_pieces();
    if (sent < 0) {
      if (failure == EINTR) continue;
      if (failure == EFAULT) {
        if (!leave_out_unreadable()) return false;
        continue;
      }
      if (failure == EAGAIN || failure == EWOULDBLOCK) {
        *full = true;
        return true;
      }
      end(errno_text(failure));
      return false;
    }
    progress_ns_.store(now_ns(), std::memory_order_relaxed);
    const size_t of_head = std::min(static_cast<size_t>(sent), head_.size() - head_sent_);
    head_sent_ += of_head;
    answer_sent_ += static_cast<size_t>(sent) - of_head;
  }
  reads_.erase(reads_.begin(), reads_.begin() + static_cast<ptrdiff_t>(answer_reads_));
  answer_open_ = false;
  return true;
}

}  // namespace te::tcp
