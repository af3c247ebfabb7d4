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
  if (request.type == wire::ControlType::kExchange) {
    const Status status = start_exchange(request.id, body);
    if (!status.ok()) answer_request(request.id, status, nullptr);
    return;
  }
  Result<std::shared_ptr<const Bytes>> answer = answer_at_once(request, body);
  answer_request(request.id, answer.status(), answer.ok() ? answer.take() : nullptr);
}

Result<std::shared_ptr<const Bytes>> ControlSession::answer_at_once(
    const wire::ControlHeader& request, std::string_view body) {
  switch (request.type) {
    case wire::ControlType::kPing:
      return std::make_shared<const Bytes>(body);
    case wire::ControlType::kDescribe: {
      ByteReader in(as_bytes(body));
      const auto known = in.number<uint64_t>();
      if (!in.complete()) return Status(Code::kProtocol, "a describe request cannot be understood");
      TE_RETURN_IF_ERROR(peer_.require(tls::Permission::kOpen));
      // What an earlier connection of this peer was told may have been for other rights.
      const bool told = described_ || !peer_.known();
      if (told && known != 0 && known == service_.generation()) {
        return std::shared_ptr<const Bytes>();
      }
      described_ = true;
      return service_.describe(peer_);
    }
    case wire::ControlType::kNotify: {
      TE_RETURN_IF_ERROR(peer_.require(tls::Permission::kNotify));
      Result<wire::NotifyBody> notification = wire::NotifyBody::decode(body);
      if (!notification.ok()) return notification.status();
      TE_RETURN_IF_ERROR(service_.notified(notification.take()));
      return std::shared_ptr<const Bytes>();
    }
    case wire::ControlType::kLinks:
      TE_RETURN_IF_ERROR(peer_.require(tls::Permission::kWatch));
      return std::make_shared<const Bytes>(service_.links());
    default:
      return error(Code::kUnsupported, "this engine does not know the request {}",
                   static_cast<int>(request.type));
  }
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
  TE_RETURN_IF_ERROR(peer_.require(tls::Permission::kOpen));
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
  Status status = service_.exchange(exchange.take(), rights_of(peer_.permissions()), answered);
  if (!status.ok()) waiting_ = false;
  return status;
}

}  // namespace te
