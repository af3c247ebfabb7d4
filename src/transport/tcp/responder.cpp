#include "transport/tcp/responder.h"

#include <sys/epoll.h>

#include <cerrno>

#include "base/clock.h"
#include "base/log.h"

namespace te::tcp {
namespace {}  // namespace

Responder::Responder(EventLoop& loop, AccessTable& table, ResponderOwner& owner,
                     tls::Connection connection, const wire::Hello& hello,
                     std::shared_ptr<void> permit)
    : loop_(loop),
      owner_(owner),
      connection_(std::move(connection)),
      peer_(peer_address(connection_.fd())),
      hello_(hello),
      permit_(std::move(permit)),
      answers_(table),
      requests_(table, answers_, connection_.principal()) {
  made_progress();
}

Responder::~Responder() {
  if (admitted_ && connection_.valid()) loop_.remove(connection_.fd(), this);
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
  answers_.begin({bytes.data(), bytes.size()});
  admitted_ = true;
  if (Status status = loop_.add(connection_.fd(), EPOLLIN | EPOLLOUT | EPOLLRDHUP, this);
      !status.ok()) {
    return end(status.message());
  }
  flush();
}

void Responder::refuse(uint64_t instance, Code code) {
  wire::HelloAnswer answer;
  answer.instance = instance;
  answer.code = code;
  const auto bytes = answer.encode();
  (void)connection_.send({bytes.data(), bytes.size()});
  end("refused its hello");
}

void Responder::made_progress() { progress_ns_.store(now_ns(), std::memory_order_relaxed); }

void Responder::end_if_stalled(int64_t before_ns) {
  const bool in_the_middle =
      requests_.in_the_middle() || answers_.in_the_middle() || connection_.in_the_middle();
  if (in_the_middle && used_ns() < before_ns) {
    end("it stopped in the middle of a frame (stall_timeout_ms)");
  }
}

void Responder::end_if_refused(int64_t now_ns) {
  if (Status status = connection_.recheck(now_ns); !status.ok()) end(status.message());
}

void Responder::end_if_idle(int64_t before_ns) {
  // What has arrived is not thrown away.
  if (admitted_ && !ended_) receive();
  const bool idle = admitted_ && !ended_ && !requests_.in_the_middle() && answers_.empty();
  if (idle && used_ns() < before_ns) end("it was idle, and another needs its place");
}

void Responder::on_events(uint32_t events) {
  if (ended_) return;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) hangup_ = true;
  if (!flush()) return;
  receive();
}

bool Responder::poll() { return !ended_ && receive(); }

bool Responder::receive() {
  size_t taken = 0;
  bool more = true;
  while (!answers_.full()) {
    const Stream::Outcome outcome = requests_.receive(connection_);
    const size_t received = requests_.received();
    taken += received;
    if (outcome == Stream::Outcome::kFailed || outcome == Stream::Outcome::kClosed) {
      end(outcome == Stream::Outcome::kFailed ? connection_.text_of(errno) : "");
      return true;
    }
    if (received > 0) {
      made_progress();
      if (const std::string_view why = requests_.carry_out(); !why.empty()) {
        end(why);
        return true;
      }
    }
    more = outcome != Stream::Outcome::kDrained || (hangup_ && received > 0);
    if (!more) break;
    if (answers_.urgent() && !flush()) return true;
    if (taken >= kTurnBytes) break;
  }
  // No event tells of what was left unread for want of room or time.
  if (taken > 0 && flush() && more && !answers_.full()) loop_.again(this);
  return taken > 0;
}

bool Responder::flush() {
  const uint64_t before = answers_.sent_bytes();
  const AnswerSender::Outcome outcome = answers_.send(connection_, owner_.careful());
  const int failure = errno;
  if (answers_.sent_bytes() != before) made_progress();
  switch (outcome) {
    case AnswerSender::Outcome::kSent:
    case AnswerSender::Outcome::kBlocked:
      return true;
    case AnswerSender::Outcome::kFailed:
      end(connection_.text_of(failure));
      return false;
    case AnswerSender::Outcome::kUnregistered:
      // The bytes that were promised cannot come; the peer asks again and hears why.
      end("a buffer was unregistered while it was read");
      return false;
    case AnswerSender::Outcome::kUnreadable:
      owner_.found_unreadable();
      end("memory that it asked for cannot be read: was it unmapped, protected, or its file "
          "truncated?");
      return false;
  }
  return true;
}

}  // namespace te::tcp
