#include "transport/shm/message.h"

#include "base/log.h"

namespace te::shm {
namespace {

constexpr uint32_t kMagic = 0x4D485354;  // "TSHM"

}  // namespace

RangeKey RangeKey::decode(const std::byte* from) {
  RangeKey key{};
  key.index = load<uint32_t>(from);
  key.generation = load<uint64_t>(from + 4);
  key.way = static_cast<Way>(from[12]);
  return key;
}

Bytes RangeKey::encode() const {
  ByteWriter out;
  out.number(index);
  out.number(generation);
  out.number(static_cast<uint8_t>(way));
  return out.take();
}

Result<Advertisement> Advertisement::decode(ByteView bytes) {
  ByteReader in(bytes);
  const auto version = in.number<uint16_t>();
  const std::string_view token = in.view(16), cookie = in.view(32);
  if (!in.complete()) {
    return error(Code::kProtocol, "an advertisement of {} bytes: {} are right", bytes.size(),
                 kSize);
  }
  if (version != kVersion) {
    return error(Code::kUnsupported, "the peer's version is {}, this one's {}", version, kVersion);
  }
  Advertisement advertisement;
  token.copy(reinterpret_cast<char*>(advertisement.token.data()), token.size());
  cookie.copy(reinterpret_cast<char*>(advertisement.cookie.data()), cookie.size());
  return advertisement;
}

Bytes Advertisement::encode() const {
  ByteWriter out;
  out.number(kVersion);
  out.raw({reinterpret_cast<const char*>(token.data()), token.size()});
  out.raw({reinterpret_cast<const char*>(cookie.data()), cookie.size()});
  return out.take();
}

Result<Message> Message::decode(ByteView bytes) {
  ByteReader in(bytes);
  const auto magic = in.number<uint32_t>();
  const auto version = in.number<uint16_t>();
  const auto kind = in.number<uint16_t>();
  Message message;
  const auto code = in.number<int32_t>();
  message.index = in.number<uint32_t>();
  message.generation = in.number<uint64_t>();
  message.value = in.number<uint64_t>();
  message.length = in.number<uint64_t>();
  message.type = in.number<uint32_t>();
  const std::string_view data = in.view(message.data.size());
  data.copy(reinterpret_cast<char*>(message.data.data()), data.size());
  if (!in.complete()) {
    return error(Code::kProtocol, "a message of {} bytes: {} are right", bytes.size(), kSize);
  }
  if (magic != kMagic) return Status(Code::kProtocol, "not a message of this protocol");
  if (version != kVersion) {
    return error(Code::kUnsupported, "the peer's version is {}, this one's {}", version, kVersion);
  }
  if (kind < static_cast<uint16_t>(Kind::kHello) || kind > static_cast<uint16_t>(Kind::kReleased)) {
    return error(Code::kProtocol, "a message of the unknown kind {}", kind);
  }
  if (code > 0 || code < static_cast<int32_t>(Code::kInternal)) {
    return error(Code::kProtocol, "a message with the unknown code {}", code);
  }
  message.kind = static_cast<Kind>(kind);
  message.code = static_cast<Code>(code);
  return message;
}

std::array<char, Message::kSize> Message::encode() const {
  ByteWriter out;
  out.number(kMagic);
  out.number(kVersion);
  out.number(static_cast<uint16_t>(kind));
  out.number(static_cast<int32_t>(code));
  out.number(index);
  out.number(generation);
  out.number(value);
  out.number(length);
  out.number(type);
  out.raw({reinterpret_cast<const char*>(data.data()), data.size()});
  std::array<char, kSize> bytes{};
  out.take().copy(bytes.data(), bytes.size());
  return bytes;
}

}  // namespace te::shm
