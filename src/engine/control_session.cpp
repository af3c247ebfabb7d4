#include "engine/control_session.h"

#include "base/log.h"

namespace te {

void ControlSession::answer(std::string head, std::shared_ptr<const Bytes> body) {
  head_ = std::move(head);
  body_ = std::move(body);
  sent_ = 0;
}

ControlSession::Unsent ControlSession::unsent() const {
  const bool body = body_ != nullptr && !body_->empty();
  if (sent_ < head_.size()) return {std::string_view(head_).substr(sent_), body};
  if (!body) return {};
  return {std::string_view(*body_).substr(sent_ - head_.size()), false};
}

void ControlSession::sent(size_t count) {
  sent_ += count;
  if (!unsent().bytes.empty()) return;
  head_.clear();
  body_ = nullptr;
  sent_ = 0;
}

bool ControlSession::handle_next(const std::function<bool()>& has_ended) {
  if (!may_receive() || in_.size() < wire::ControlHeader::kSize) return false;
  Result<wire::ControlHeader> header =
      wire::ControlHeader::decode(as_bytes(in_).first(wire::ControlHeader::kSize));
  if (!header.ok() || header->length > wire::ControlHeader::kMaxRequest) {
    broken_ = true;
    return false;
  }
  const size_t whole = wire::ControlHeader::kSize + header->length;
  if (in_.size() < whole) return false;
  // Whoever sent it gave it up when the connection ended, and reports that it failed.
  if (header->type == wire::ControlType::kNotify && has_ended()) {
    broken_ = true;
    return false;
  }
  handle(*header, std::string_view(in_).substr(wire::ControlHeader::kSize, header->length));
  in_.erase(0, whole);
  return true;
}

void ControlSession::handle(const wire::ControlHeader& request, std::string_view body) {
  std::shared_ptr<const Bytes> answer_body;
  Status status;
  switch (request.type) {
    case wire::ControlType::kPing:
      answer_body = std::make_shared<const Bytes>(body);
      break;
    case wire::ControlType::kDescribe: {
      ByteReader in(as_bytes(body));
      const auto known = in.number<uint64_t>();
      if (!in.complete()) {
        status = Status(Code::kProtocol, "a describe request cannot be understood");
      } else if (known == 0 || known != service_.generation()) {
        answer_body = service_.describe();
      }
      break;
    }
    case wire::ControlType::kNotify: {
      Result<wire::NotifyBody> notification = wire::NotifyBody::decode(body);
      status = notification.ok() ? service_.notified(notification.take()) : notification.status();
      break;
    }
    case wire::ControlType::kLinks:
      answer_body = std::make_shared<const Bytes>(service_.links());
      break;
    case wire::ControlType::kExchange:
      status = start_exchange(request.id, body);
      if (status.ok()) return;
      break;
    default:
      status = error(Code::kUnsupported, "this engine does not know the request {}",
                     static_cast<int>(request.type));
  }
  answer_request(request.id, status, std::move(answer_body));
}

void ControlSession::answer_request(uint64_t id, const Status& status,
                                    std::shared_ptr<const Bytes> body) {
  wire::ControlHeader header;
  header.type = wire::ControlType::kAnswer;
  header.id = id;
  if (!status.ok()) {
    header.code = status.code();
    body = std::make_shared<const Bytes>(status.message());
  }
  header.length = body ? body->size() : 0;
  const auto bytes = header.encode();
  answer({bytes.data(), bytes.size()}, std::move(body));
}

// Ok: the answer comes later, unless the session ends before.
Status ControlSession::start_exchange(uint64_t id, std::string_view body) {
  Result<wire::ExchangeBody> exchange = wire::ExchangeBody::decode(body);
  if (!exchange.ok()) return exchange.status();
  waiting_ = true;
  const auto answered = [run = run_, session = this, alive = std::weak_ptr(alive_),
                         id](Result<Bytes> result) {
    run([session, alive, id, result = std::move(result)] {
      if (alive.expired()) return;
      session->waiting_ = false;
      std::shared_ptr<const Bytes> bytes;
      if (result.ok()) bytes = std::make_shared<const Bytes>(*result);
      session->answer_request(id, result.status(), std::move(bytes));
      session->resume_();
    });
  };
  Status status = service_.exchange(exchange.take(), answered);
  if (!status.ok()) waiting_ = false;
  return status;
}

}  // namespace te
