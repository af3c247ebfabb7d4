#include "transport/tcp/answer_sender.h"

#include <algorithm>
#include <cerrno>

#include "base/guarded_copy.h"

namespace te::tcp {
namespace {

constexpr uint64_t kAckBytes = 512 << 10;  // received, before an answer goes out in mid-stream
constexpr size_t kMaxSmall = 64 << 10;     // of answers waiting; then nothing more is received
constexpr size_t kMaxReadsPerAnswer = 64;

void append(std::string& to, const AnswerHeader& header) {
  const size_t at = to.size();
  to.resize(at + AnswerHeader::kSize);
  header.encode(reinterpret_cast<std::byte*>(to.data()) + at);
}

}  // namespace

void AnswerSender::acknowledge(uint64_t sequence) {
  ack_due_ = true;
  ack_sequence_ = sequence;
}

void AnswerSender::refuse(uint64_t sequence, Code code) {
  append(small_, {AnswerType::kError, code, 1, sequence});
}

bool AnswerSender::full() const { return small_.size() > kMaxSmall; }

bool AnswerSender::urgent() const { return unacked_bytes_ >= kAckBytes; }

AnswerSender::Outcome AnswerSender::send(tls::Connection& to, bool careful) {
  while (open_ || build(careful)) {
    const Outcome outcome = send_open(to);
    if (outcome != Outcome::kSent) return outcome;
  }
  return Outcome::kSent;
}

bool AnswerSender::build(bool careful) {
  if (careful) refuse_unreadable(std::min(reads_.size(), kMaxReadsPerAnswer));
  if (ack_due_) {
    append(small_, {AnswerType::kAck, Code::kOk, 0, ack_sequence_});
    ack_due_ = false;
    unacked_bytes_ = 0;
  }
  head_.clear();
  head_.swap(small_);
  head_sent_ = 0;
  read_count_ = 0;
  payload_ = 0;
  payload_sent_ = 0;
  while (read_count_ < reads_.size() && read_count_ < kMaxReadsPerAnswer) {
    const PeerRequest& read = reads_[read_count_];
    if (read_count_ > 0 && (read.sequence != reads_[read_count_ - 1].sequence + 1 ||
                            payload_ + read.entry.length > kFrameBytes)) {
      break;
    }
    payload_ += read.entry.length;
    ++read_count_;
  }
  if (read_count_ > 0) {
    append(head_, {AnswerType::kData, Code::kOk, static_cast<uint32_t>(read_count_),
                   reads_.front().sequence});
  }
  open_ = !head_.empty();
  return open_;
}

AnswerSender::Outcome AnswerSender::send_open(tls::Connection& to) {
  while (head_sent_ < head_.size() || payload_sent_ < payload_) {
    iovec vectors[1 + kMaxReadsPerAnswer];
    const size_t count = pin_rest(vectors);
    const ssize_t sent = count > 0 ? to.send(vectors, count) : 0;
    const int failure = errno;
    pins_.release();
    if (count == 0) return Outcome::kUnregistered;
    if (sent < 0) {
      if (failure == EINTR) continue;
      if (failure == EAGAIN || failure == EWOULDBLOCK) return Outcome::kBlocked;
      if (failure == EFAULT && !to.committed() && leave_out_unreadable()) continue;
      errno = failure;
      return failure == EFAULT ? Outcome::kUnreadable : Outcome::kFailed;
    }
    sent_bytes_ += static_cast<size_t>(sent);
    const size_t of_head = std::min(static_cast<size_t>(sent), head_.size() - head_sent_);
    head_sent_ += of_head;
    payload_sent_ += static_cast<size_t>(sent) - of_head;
  }
  reads_.erase(reads_.begin(), reads_.begin() + static_cast<ptrdiff_t>(read_count_));
  open_ = false;
  return Outcome::kSent;
}

// What of the answer has not left.
size_t AnswerSender::pin_rest(iovec* vectors) {
  size_t count = 0;
  if (head_sent_ < head_.size()) {
    vectors[count++] = {head_.data() + head_sent_, head_.size() - head_sent_};
  }
  uint64_t skip = payload_sent_;
  for (size_t i = 0; i < read_count_; ++i) {
    const RequestEntry& entry = reads_[i].entry;
    if (skip >= entry.length) {
      skip -= entry.length;
      continue;
    }
    if (pins_.pin(entry, Rights::kRead) != Code::kOk) return 0;
    vectors[count++] = {reinterpret_cast<std::byte*>(entry.address) + skip, entry.length - skip};
    skip = 0;
  }
  return count;
}

// Refuses those of the first `count` READs whose memory cannot be read. True if there were any.
bool AnswerSender::refuse_unreadable(size_t count) {
  const auto unreadable = [this](const PeerRequest& read) {
    const RequestEntry& entry = read.entry;
    Code code = table_.acquire(entry.key, entry.address, entry.length, Rights::kRead);
    if (code == Code::kOk) {
      const auto* begin = reinterpret_cast<const std::byte*>(entry.address);
      if (!is_readable(begin, entry.length)) code = Code::kPermission;
      table_.release(entry.key);
    }
    if (code != Code::kOk) refuse(read.sequence, code);
    return code != Code::kOk;
  };
  const auto end = reads_.begin() + static_cast<ptrdiff_t>(count);
  const auto kept = std::remove_if(reads_.begin(), end, unreadable);
  const bool any = kept != end;
  reads_.erase(kept, end);
  return any;
}

// After the kernel could not read what the answer promises. False: the promise cannot be taken
// back, because some of it has left, or all of it can be read.
bool AnswerSender::leave_out_unreadable() {
  if (head_sent_ > 0 || payload_sent_ > 0) return false;
  head_.resize(head_.size() - AnswerHeader::kSize);
  small_.insert(0, head_);
  return refuse_unreadable(read_count_) && build(false);
}

}  // namespace te::tcp
