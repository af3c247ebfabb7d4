#include "transport/tcp/zero_copy.h"

#include <netinet/in.h>
#include <time.h>
// After time.h, which it needs.
#include <linux/errqueue.h>

#include <algorithm>
#include <cerrno>

#include "base/clock.h"

namespace te::tcp {
namespace {

int64_t thread_cpu_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

// Null where the message is another.
const sock_extended_err* notification(msghdr& message) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if ((part->cmsg_level != SOL_IP || part->cmsg_type != IP_RECVERR) &&
        (part->cmsg_level != SOL_IPV6 || part->cmsg_type != IPV6_RECVERR)) {
      continue;
    }
    const auto* said = reinterpret_cast<const sock_extended_err*>(CMSG_DATA(part));
    if (said->ee_origin == SO_EE_ORIGIN_ZEROCOPY && said->ee_errno == 0) return said;
  }
  return nullptr;
}

}  // namespace

void ZeroCopyCompletions::add(uint32_t first, uint32_t last) {
  const uint32_t ahead = first - static_cast<uint32_t>(below_);
  if (ahead > INT32_MAX) return;  // it was reported before
  const uint64_t from = below_ + ahead;
  early_.emplace_back(from, from + static_cast<uint32_t>(last - first) + 1);
  std::sort(early_.begin(), early_.end());
  auto range = early_.begin();
  for (; range != early_.end() && range->first <= below_; ++range) {
    below_ = std::max(below_, range->second);
  }
  early_.erase(early_.begin(), range);
}

void ZeroCopy::enable(int fd, ZeroCopyMode mode, std::shared_ptr<ZeroCopyTotals> totals) {
  const int on = 1;
  if (mode == ZeroCopyMode::kOff ||
      ::setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on) != 0) {
    return;
  }
  trial_ = ZeroCopyTrial(mode);
  totals_ = std::move(totals);
  ++totals_->open;
}

void ZeroCopy::close() {
  if (!totals_) return;
  --totals_->open;
  totals_->open.notify_all();
}

bool ZeroCopy::takes(uint64_t bytes, size_t requests) {
  if (!totals_ || !ZeroCopyTrial::is_large(bytes, requests)) return false;
  // The number of all comes last: of those that it counts, every copy is known.
  const uint64_t reported = reported_.load(std::memory_order_acquire);
  trial_.reported(reported, copied_.load(std::memory_order_relaxed));
  const ZeroCopyTrial::Verdict verdict = trial_.verdict();
  measures_.store(verdict == ZeroCopyTrial::Verdict::kOpen, std::memory_order_relaxed);
  without_copy_ = trial_.without_copy() && !is_slow(reported);
  refused_ = false;
  bytes_ = bytes;
  cpu_ns_ = 0;
  return verdict != ZeroCopyTrial::Verdict::kGiveUp;
}

// Whether sends are slow to complete.
bool ZeroCopy::is_slow(uint64_t reported) {
  const bool held = reported != sends_.load(std::memory_order_relaxed);
  if (!held || reported != last_reported_ || held_since_ns_ == 0) {
    last_reported_ = reported;
    held_since_ns_ = held ? now_ns() : 0;
    return false;
  }
  return now_ns() - held_since_ns_ > kSlowNs;
}

ssize_t ZeroCopy::send(int fd, msghdr& message, bool head) {
  const bool measures = measures_.load(std::memory_order_relaxed);
  const int64_t begin_ns = measures ? thread_cpu_ns() : 0;
  ssize_t sent = -1;
  if (without_copy_ && head) {
    message.msg_iovlen = 1;
    sent = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_MORE);
  } else if (without_copy_) {
    sent = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_ZEROCOPY);
    if (sent > 0) {
      sends_.fetch_add(1);
      ++totals_->sends;
    } else if (sent < 0 && errno != EAGAIN && errno != EINTR) {
      // A limit was reached (ENOBUFS), or the memory is of a kind whose pages cannot be looked up.
      // Whatever else it is, the send with a copy will tell.
      ++totals_->refused;
      refused_ = true;
      without_copy_ = false;
    }
  }
  if (!without_copy_) sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
  if (measures) {
    const int failure = errno;
    cpu_ns_ += thread_cpu_ns() - begin_ns;
    errno = failure;
  }
  return sent;
}

uint64_t ZeroCopy::end() {
  if (refused_) {
    trial_.refused();
  } else {
    if (without_copy_) cpu_ns_ += notifications_ns_.exchange(0, std::memory_order_relaxed);
    const bool open = trial_.verdict() == ZeroCopyTrial::Verdict::kOpen;
    trial_.sent(bytes_, cpu_ns_);
    if (open && trial_.verdict() == ZeroCopyTrial::Verdict::kKeep) ++totals_->kept;
  }
  return sends_.load(std::memory_order_relaxed);
}

void ZeroCopy::take_notifications(int fd) {
  const bool measures = measures_.load(std::memory_order_relaxed);
  const int64_t begin_ns = measures ? thread_cpu_ns() : 0;
  for (;;) {
    alignas(cmsghdr) char control[256];
    msghdr message{};
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (::recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
      if (errno == EINTR) continue;
      break;
    }
    const sock_extended_err* said = notification(message);
    if (said == nullptr) continue;
    completions_.add(said->ee_info, said->ee_data);
    const uint32_t count = said->ee_data - said->ee_info + 1;
    if ((said->ee_code & SO_EE_CODE_ZEROCOPY_COPIED) != 0) {
      copied_.fetch_add(count, std::memory_order_relaxed);
      totals_->copied += count;
    }
    reported_.fetch_add(count, std::memory_order_release);
  }
  if (measures) notifications_ns_ += thread_cpu_ns() - begin_ns;
}

}  // namespace te::tcp
