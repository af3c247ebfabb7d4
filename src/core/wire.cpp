#include "core/wire.h"

#include "base/log.h"

namespace te::wire {
namespace {

// Writes fields one after another into a fixed array.
template <size_t kSize>
class FixedWriter {
 public:
  template <typename T>
  FixedWriter& put(T value) {
    std::memcpy(out_.data() + at_, &value, sizeof value);
    at_ += sizeof value;
    return *this;
  }
  std::array<char, kSize> done() const {
    assert(at_ == kSize);
    return out_;
  }

 private:
  std::array<char, kSize> out_{};
  size_t at_ = 0;
};

Code code_from_wire(int32_t value) {
  // A newer peer may know codes that we do not.
  return value <= 0 && value >= static_cast<int32_t>(Code::kInternal) ? static_cast<Code>(value)
                                                                      : Code::kInternal;
}

}  // namespace

std::array<char, Hello::kSize> Hello::encode() const {
  return FixedWriter<kSize>()
      .put(kMagic)
      .put(version)
      .put(oldest_version)
      .put(static_cast<uint16_t>(kind))
      .put(lane)
      .put(uint32_t{0})
      .put(features)
      .put(instance)
      .put(target_instance)
      .put(session)
      .put(epoch)
      .done();
}

Result<Hello> Hello::decode(ByteView bytes) {
  ByteReader in(bytes);
  if (in.number<uint32_t>() != kMagic) {
    return Status(Code::kProtocol, "these are not the first bytes of a transfer engine");
  }
  Hello hello;
  hello.version = in.number<uint16_t>();
  hello.oldest_version = in.number<uint16_t>();
  if (!in.ok()) return Status(Code::kProtocol, "the hello of the peer is cut short");
  if (hello.oldest_version > kVersion || hello.version < kOldestVersion) {
    return error(Code::kUnsupported,
                 "the peer speaks protocol versions {} to {}, this engine {} to {}",
                 hello.oldest_version, hello.version, kOldestVersion, kVersion);
  }
  const auto kind = in.number<uint16_t>();
  hello.lane = in.number<uint16_t>();
  in.number<uint32_t>();
  hello.features = in.number<uint64_t>();
  hello.instance = in.number<uint64_t>();
  hello.target_instance = in.number<uint64_t>();
  hello.session = in.number<uint64_t>();
  hello.epoch = in.number<uint64_t>();
  if (!in.complete() || kind > static_cast<uint16_t>(ChannelKind::kTcpData)) {
    return Status(Code::kProtocol, "the hello of the peer cannot be understood");
  }
  hello.kind = static_cast<ChannelKind>(kind);
  return hello;
}

std::array<char, HelloAnswer::kSize> HelloAnswer::encode() const {
  return FixedWriter<kSize>()
      .put(kMagic)
      .put(version)
      .put(uint16_t{0})
      .put(static_cast<int32_t>(code))
      .put(uint32_t{0})
      .put(features)
      .put(instance)
      .put(window)
      .put(reserved)
      .done();
}

Result<HelloAnswer> HelloAnswer::decode(ByteView bytes) {
  ByteReader in(bytes);
  if (in.number<uint32_t>() != kMagic) {
    return Status(Code::kProtocol, "whoever answers is not a transfer engine");
  }
  HelloAnswer answer;
  answer.version = in.number<uint16_t>();
  in.number<uint16_t>();
  answer.code = code_from_wire(in.number<int32_t>());
  in.number<uint32_t>();
  answer.features = in.number<uint64_t>();
  answer.instance = in.number<uint64_t>();
  answer.window = in.number<uint32_t>();
  answer.reserved = in.number<uint32_t>();
  if (!in.complete()) return Status(Code::kProtocol, "the answer of the peer cannot be understood");
  if (answer.code == Code::kOk && (answer.version < kOldestVersion || answer.version > kVersion)) {
    return error(Code::kUnsupported,
                 "the peer answers in protocol version {}, this engine speaks {}", answer.version,
                 kVersion);
  }
  return answer;
}

std::string silence(uint64_t connect_timeout_ms) {
  return fmt::format("no answer within {} ms (connect_timeout_ms)", connect_timeout_ms);
}

Status refusal(const HelloAnswer& answer, const std::string& peer) {
  switch (answer.code) {
    case Code::kStale:
      return error(Code::kStale, "{}: another run of the engine answers there", peer);
    case Code::kBusy:
      return error(
          Code::kBusy,
          "{}: it is busy: it has as many connections as it allows, of all peers or of this "
          "address (max_inbound_connections, max_pending_connections), or no file "
          "descriptor left (`ulimit -n` there); try again",
          peer);
    case Code::kUnsupported:
      return error(Code::kUnsupported,
                   "{}: it does not speak this protocol version or serve this transport", peer);
    case Code::kPermission:
      return error(
          Code::kPermission,
          "{}: it takes only connections with TLS: the setting security has to be tls here "
          "too",
          peer);
    default:
      return error(answer.code, "{}: the connection was refused ({})", peer,
                   code_name(answer.code));
  }
}

std::array<char, ControlHeader::kSize> ControlHeader::encode() const {
  return FixedWriter<kSize>()
      .put(static_cast<uint16_t>(type))
      .put(uint16_t{0})
      .put(static_cast<int32_t>(code))
      .put(id)
      .put(length)
      .done();
}

Result<ControlHeader> ControlHeader::decode(ByteView bytes) {
  ByteReader in(bytes);
  ControlHeader header;
  header.type = static_cast<ControlType>(in.number<uint16_t>());
  in.number<uint16_t>();
  header.code = code_from_wire(in.number<int32_t>());
  header.id = in.number<uint64_t>();
  header.length = in.number<uint64_t>();
  if (!in.complete()) return Status(Code::kProtocol, "a control header is cut short");
  return header;
}

Bytes NotifyBody::encode() const {
  ByteWriter out;
  out.number(sender);
  out.number(sequence);
  out.text(notification.name);
  out.text(notification.message);
  return out.take();
}

Result<NotifyBody> NotifyBody::decode(std::string_view bytes) {
  ByteReader in(as_bytes(bytes));
  NotifyBody body;
  body.sender = in.number<uint64_t>();
  body.sequence = in.number<uint64_t>();
  body.notification.name = in.text(kMaxNotificationText);
  body.notification.message = in.text(kMaxNotificationText);
  if (!in.complete()) return Status(Code::kProtocol, "a notification cannot be understood");
  return body;
}

Bytes ExchangeBody::encode() const {
  ByteWriter out;
  out.text(transport);
  out.text(hello);
  return out.take();
}

Result<ExchangeBody> ExchangeBody::decode(std::string_view bytes) {
  ByteReader in(as_bytes(bytes));
  ExchangeBody body;
  body.transport = in.text(kMaxTransportName);
  body.hello = in.text(kMaxExchange);
  if (!in.complete() || body.transport.empty()) {
    return Status(Code::kProtocol, "a transport's exchange cannot be understood");
  }
  return body;
}

}  // namespace te::wire
