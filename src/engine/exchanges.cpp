#include "engine/exchanges.h"

#include "base/log.h"

namespace te {

void Exchanges::ask(const Peer& peer, std::string_view transport, Bytes hello, Answered answered) {
  {
    MutexLock lock(mutex_);
    std::deque<Asked>& line = lines_[peer.instance];
    line.push_back({{std::string(transport), std::move(hello)}, std::move(answered)});
    if (line.size() > 1) return;
  }
  ask_next(peer.instance);
}

void Exchanges::ask_next(uint64_t instance) {
  const wire::ExchangeBody* body = nullptr;
  {
    MutexLock lock(mutex_);
    body = &lines_.at(instance).front().body;  // stays where it is until it is answered
  }
  bring(instance, *body, [this, instance](Result<Bytes> answer) {
    // Where the pool takes nothing any more, the engine ends, and so does the transport.
    const auto shared = std::make_shared<Result<Bytes>>(std::move(answer));
    const bool taken =
        asking_.run([this, instance, shared] { answered(instance, std::move(*shared)); });
    if (!taken) answered(instance, std::move(*shared));
  });
}

void Exchanges::answered(uint64_t instance, Result<Bytes> answer) {
  Answered first;
  {
    MutexLock lock(mutex_);
    first = std::move(lines_.at(instance).front().answered);
  }
  first(std::move(answer));
  first = nullptr;
  {
    MutexLock lock(mutex_);
    std::deque<Asked>& line = lines_.at(instance);
    line.pop_front();
    if (line.empty()) {
      lines_.erase(instance);
      none_left_.notify_all();
      return;
    }
  }
  ask_next(instance);
}

void Exchanges::bring(uint64_t instance, const wire::ExchangeBody& body, Answered answered) {
  if (stopping_.load()) return answered(Status(Code::kCancelled, "the engine ends"));
  if (body.transport.size() > wire::kMaxTransportName || body.hello.size() > wire::kMaxExchange) {
    return answered(error(Code::kInvalidArgument,
                          "an exchange of {} bytes is too large: the most is {}", body.hello.size(),
                          wire::kMaxExchange));
  }
  if (instance == instance_) {
    const bool taken = asking_.run([this, body, answered] { answered(give(body, Rights::kBoth)); });
    if (!taken) answered(Status(Code::kCancelled, "the engine ends"));
    return;
  }
  const std::shared_ptr<Segment> segment = segments_.behind(instance);
  if (!segment) {
    return answered(
        error(Code::kNotFound, "no segment leads to the engine {:#x} any more", instance));
  }
  const std::string context =
      fmt::format("{}: the exchange with segment '{}'", body.transport, segment->name);
  segments_.call(segment, wire::ControlType::kExchange, body.encode(), instance,
                 [answered = std::move(answered), context](Result<Bytes> answer) {
                   if (answer.ok() && answer->size() > wire::kMaxExchange) {
                     answer = error(Code::kProtocol,
                                    "the answer of {} bytes is too large: the most is {}",
                                    answer->size(), wire::kMaxExchange);
                   }
                   if (answer.ok()) return answered(std::move(answer));
                   answered(answer.status().with_context(context));
                 });
}

void Exchanges::stop() {
  begin_stop();
  {
    MutexLock lock(mutex_);
    while (!lines_.empty()) none_left_.wait(mutex_);
  }
  asking_.stop();
}

Status Exchanges::accept(wire::ExchangeBody body, Rights rights, Answered answered) {
  if (accepts_.fetch_add(1) >= kMaxAccepts) {
    accepts_.fetch_sub(1);
    return error(Code::kBusy, "{} exchanges wait here already: try again later", kMaxAccepts);
  }
  const bool taken =
      accepting_.run([this, rights, body = std::move(body), answered = std::move(answered)] {
        Result<Bytes> answer = give(body, rights);
        accepts_.fetch_sub(1);
        answered(std::move(answer));
      });
  if (taken) return {};
  accepts_.fetch_sub(1);
  return Status(Code::kCancelled, "the engine ends");
}

Result<Bytes> Exchanges::give(const wire::ExchangeBody& body, Rights rights) const {
  if (stopping_.load()) return Status(Code::kCancelled, "the engine ends");
  const std::shared_ptr<Transport> transport = find_transport_(body.transport);
  if (!transport) {
    return Status(Code::kUnsupported, "the engine has no such transport installed");
  }
  if (rights != Rights::kBoth && !transport->capabilities().checks_rights) {
    return error(Code::kPermission,
                 "{} serves peers that may READ and WRITE: this one has {} (tls_policy)",
                 transport->name(), rights_name(rights));
  }
  Result<Bytes> answer = transport->accept(body.hello, rights);
  if (answer.ok() && answer->size() > wire::kMaxExchange) {
    return error(Code::kInternal, "the transport answered with {} bytes: the most is {}",
                 answer->size(), wire::kMaxExchange);
  }
  return answer;
}

void Exchanges::begin_stop() {
  stopping_.store(true);
  accepting_.stop();
}

}  // namespace te
