#include "transport/tcp/lane_connector.h"

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

LaneConnector::Step LaneConnector::advance(tls::Connection& connection, Stream& stream) {
  if (!connected_) {
    if (const int failure = socket_error(connection.fd()); failure != 0)
      return lost(errno_text(failure));
    keep_in_cache(connection.fd(), connection.bulk_size());
    connected_ = true;
  }
  while (hello_sent_ < hello_.size()) {
    const ssize_t sent = connection.send(std::string_view(hello_).substr(hello_sent_));
    if (sent <= 0) {
      if (errno == EAGAIN || errno == EINTR || errno == ENOTCONN) return Step::kWaiting;
      if (errno == EPROTO) return insecure(connection);
      break;  // a peer that closes at once may have said why
    }
    hello_sent_ += static_cast<size_t>(sent);
  }
  const Stream::Outcome outcome = stream.receive(connection);
  if (outcome == Stream::Outcome::kFailed && errno == EPROTO) return insecure(connection);
  if (outcome == Stream::Outcome::kFailed) return lost(errno_text(errno));
  if (stream.buffered().size() >= wire::HelloAnswer::kSize) return take_answer(stream);
  if (outcome == Stream::Outcome::kClosed) {
    return lost("it closed the connection before it answered");
  }
  return Step::kWaiting;
}

// Refused in the handshake, or lost in it; the refused would be again.
LaneConnector::Step LaneConnector::insecure(const tls::Connection& connection) {
  if (connection.why().code() == Code::kUnavailable) return lost(connection.why().message());
  return refused(connection.why().with_context("tcp to " + path_.remote_address));
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
