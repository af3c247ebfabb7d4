#include "transport/tcp/lane_connector.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "transport/tcp/frame.h"

namespace te::tcp {

void LaneConnector::begin(const SocketAddress& address, const wire::Hello& hello,
                          int64_t deadline_ns) {
  address_ = address;
  const auto bytes = hello.encode();
  hello_.assign(bytes.begin(), bytes.end());
  retry_.emplace(deadline_ns);
}

Result<Fd> LaneConnector::attempt() {
  connected_ = false;
  hello_sent_ = 0;
  return start_connect(address_);
}

LaneConnector::Step LaneConnector::lost(std::string_view why) {
  why_ = error(Code::kUnavailable, "tcp to {}: {}", path_.remote_address, why);
  return Step::kLost;
}

LaneConnector::Step LaneConnector::refused(Status why) {
  why_ = std::move(why);
  return Step::kRefused;
}

LaneConnector::Step LaneConnector::advance(int fd, Stream& stream) {
  if (!connected_) {
    if (const int failure = socket_error(fd); failure != 0) return lost(errno_text(failure));
    keep_in_cache(fd);
    connected_ = true;
  }
  while (hello_sent_ < hello_.size()) {
    const ssize_t sent =
        ::send(fd, hello_.data() + hello_sent_, hello_.size() - hello_sent_, MSG_NOSIGNAL);
    if (sent <= 0) {
      if (errno == EAGAIN || errno == EINTR || errno == ENOTCONN) return Step::kWaiting;
      break;  // a peer that closes at once may have said why
    }
    hello_sent_ += static_cast<size_t>(sent);
  }
  const Stream::Outcome outcome = stream.receive(fd);
  if (outcome == Stream::Outcome::kFailed) return lost(errno_text(errno));
  if (stream.buffered().size() >= wire::HelloAnswer::kSize) return take_answer(stream);
  if (outcome == Stream::Outcome::kClosed) {
    return lost("it closed the connection before it answered");
  }
  return Step::kWaiting;
}

LaneConnector::Step LaneConnector::take_answer(Stream& stream) {
  const std::string peer = "tcp to " + path_.remote_address;
  const Result<wire::HelloAnswer> answer =
      wire::HelloAnswer::decode(stream.buffered().first(wire::HelloAnswer::kSize));
  if (!answer.ok()) return refused(answer.status().with_context(peer));
  if (answer->code != Code::kOk) {
    why_ = wire::refusal(*answer, peer);
    return Step::kLost;
  }
  if (answer->window == 0) {
    return refused(error(Code::kUnavailable, "{}: the peer allows no request", peer));
  }
  stream.consume(wire::HelloAnswer::kSize);
  window_ = std::min(answer->window, kWindow);
  return Step::kLetIn;
}

int64_t LaneConnector::retry_ms(Status why, int64_t now) {
  why_ = std::move(why);
  return retry_->next_ms(why_.code(), connected_, now);
}

}  // namespace te::tcp
