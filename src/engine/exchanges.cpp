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
  const bool taken = asking_.run([this, instance = peer.instance] { ask_all_in_line(instance); });
  if (!taken) ask_all_in_line(peer.instance);  // the engine ends, which is what they are told
}

void Exchanges::ask_all_in_line(uint64_t instance) {
  for (;;) {
    Asked first;
    {
      MutexLock lock(mutex_);
      first = std::move(lines_.at(instance).front());
    }
    first.answered(bring(instance, first.body));
    MutexLock lock(mutex_);
    std::deque<Asked>& line = lines_.at(instance);
    line.pop_front();
    if (!line.empty()) continue;
    lines_.erase(instance);
    return;
  }
}

Result<Bytes> Exchanges::bring(uint64_t instance, const wire::ExchangeBody& body) {
  if (stopping_.load()) return Status(Code::kCancelled, "the engine ends");
  if (body.transport.size() > wire::kMaxTransportName || body.hello.size() > wire::kMaxExchange) {
    return error(Code::kInvalidArgument, "an exchange of {} bytes is too large: the most is {}",
                 body.hello.size(), wire::kMaxExchange);
  }
  if (instance == instance_) return give(body);
  const std::shared_ptr<Segment> segment = segments_.behind(instance);
  if (!segment) {
    return error(Code::kNotFound, "no segment leads to the engine {:#x} any more", instance);
  }
  Result<Bytes> answer =
      segments_.call(*segment, wire::ControlType::kExchange, body.encode(), instance);
  if (answer.ok() && answer->size() > wire::kMaxExchange) {
    answer = error(Code::kProtocol, "the answer of {} bytes is too large: the most is {}",
                   answer->size(), wire::kMaxExchange);
  }
  if (answer.ok()) return answer;
  return answer.status().with_context(
      fmt::format("{}: the exchange with segment '{}'", body.transport, segment->name));
}

Status Exchanges::accept(wire::ExchangeBody body, Answered answered) {
  if (accepts_.fetch_add(1) >= kMaxAccepts) {
    accepts_.fetch_sub(1);
    return error(Code::kBusy, "{} exchanges wait here already: try again later", kMaxAccepts);
  }
  const bool taken = accepting_.run([this, body = std::move(body), answered = std::move(answered)] {
    Result<Bytes> answer = give(body);
    accepts_.fetch_sub(1);
    answered(std::move(answer));
  });
  if (taken) return {};
  accepts_.fetch_sub(1);
  return Status(Code::kCancelled, "the engine ends");
}

Result<Bytes> Exchanges::give(const wire::ExchangeBody& body) const {
  if (stopping_.load()) return Status(Code::kCancelled, "the engine ends");
  const std::shared_ptr<Transport> transport = find_transport_(body.transport);
  if (!transport) {
    return Status(Code::kUnsupported, "the engine has no such transport installed");
  }
  Result<Bytes> answer = transport->accept(body.hello);
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
