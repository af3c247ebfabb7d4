#include "engine/control_client.h"

#include <algorithm>

#include "base/log.h"
#include "core/descriptor.h"

namespace te {
namespace {

// A large description takes longer than an answer: this much more for each MiB that came.
constexpr int64_t kMsPerMiB = 100;

}  // namespace

Result<std::unique_ptr<ControlClient>> ControlClient::connect(const Locator& locator,
                                                              uint64_t own_instance,
                                                              std::chrono::milliseconds timeout) {
  Result<std::vector<SocketAddress>> addresses = resolve_host(locator.host, locator.port);
  if (!addresses.ok()) return addresses.status();
  Status last;
  for (const SocketAddress& address : *addresses) {
    Result<BlockingStream> stream =
        BlockingStream::connect(address, deadline_after_ms(now_ns(), timeout.count()));
    if (!stream.ok()) {
      last = stream.status();
      continue;
    }
    std::unique_ptr<ControlClient> client(new ControlClient(stream.take(), address, timeout));
    last = client->hello(locator, own_instance);
    if (last.ok()) return client;
  }
  return last;
}

Status ControlClient::hello(const Locator& locator, uint64_t own_instance) {
  MutexLock lock(mutex_);
  const int64_t deadline = deadline_after_ms(now_ns(), timeout_.count());
  wire::Hello hello;
  hello.kind = wire::ChannelKind::kControl;
  hello.instance = own_instance;
  hello.target_instance = locator.instance;
  const auto bytes = hello.encode();
  const std::string peer = address_.to_string();
  TE_RETURN_IF_ERROR(stream_.send_all({bytes.data(), bytes.size()}, deadline).with_context(peer));
  std::array<char, wire::HelloAnswer::kSize> answer_bytes;
  if (Status status = stream_.receive_exact(answer_bytes, deadline); !status.ok()) {
    // Whoever accepts and stays silent is as good as nobody.
    return error(Code::kUnavailable, "{}: {}; is a transfer engine listening there?", peer,
                 status.message());
  }
  Result<wire::HelloAnswer> answer =
      wire::HelloAnswer::decode(as_bytes({answer_bytes.data(), answer_bytes.size()}));
  if (!answer.ok()) return answer.status().with_context(peer);
  if (answer->code != Code::kOk) return wire::refusal(*answer, peer);
  peer_instance_ = answer->instance;
  return {};
}

bool ControlClient::usable() const {
  MutexLock lock(mutex_);
  return usable_;
}

Result<Bytes> ControlClient::call(wire::ControlType type, std::string_view body) {
  MutexLock lock(mutex_);
  if (!usable_) return Status(Code::kUnavailable, "the control connection was lost");
  bool answered = false;
  Result<Bytes> result = exchange(type, body, &answered);
  if (!answered) usable_ = false;
  if (!result.ok()) return result.status().with_context(address_.to_string());
  return result;
}

Result<Bytes> ControlClient::exchange(wire::ControlType type, std::string_view body,
                                      bool* answered) {
  int64_t deadline = deadline_after_ms(now_ns(), timeout_.count());
  wire::ControlHeader header;
  header.type = type;
  header.id = next_id_++;
  header.length = body.size();
  const auto head = header.encode();
  Bytes request(head.data(), head.size());
  request.append(body);
  TE_RETURN_IF_ERROR(stream_.send_all(request, deadline));
  std::array<char, wire::ControlHeader::kSize> answer_bytes;
  TE_RETURN_IF_ERROR(stream_.receive_exact(answer_bytes, deadline));
  Result<wire::ControlHeader> answer =
      wire::ControlHeader::decode(as_bytes({answer_bytes.data(), answer_bytes.size()}));
  if (!answer.ok()) return answer.status();
  if (answer->type != wire::ControlType::kAnswer || answer->id != header.id ||
      answer->length > Descriptor::kMaxBytes) {
    return Status(Code::kProtocol, "the peer's answer cannot be understood");
  }
  // Memory follows the bytes that came, not the length that was claimed.
  Bytes result;
  constexpr uint64_t kStep = 1 << 20;
  while (result.size() < answer->length) {
    const size_t at = result.size();
    result.resize(at + std::min(kStep, answer->length - at));
    deadline += kMsPerMiB * kNsPerMs;
    TE_RETURN_IF_ERROR(stream_.receive_exact({result.data() + at, result.size() - at}, deadline));
  }
  *answered = true;
  if (answer->code != Code::kOk) return Status(answer->code, result);
  return result;
}

}  // namespace te
