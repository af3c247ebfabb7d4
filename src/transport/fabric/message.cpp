#include "transport/fabric/message.h"

#include <algorithm>

namespace te::fabric {
namespace {

constexpr uint32_t kVersion = 3;

}  // namespace

Bytes Advertisement::encode() const {
  ByteWriter out;
  out.number(kVersion);
  out.text(provider);
  out.number(protocol);
  out.number(address_format);
  out.number(static_cast<uint8_t>(virtual_addresses));
  out.number(pieces);
  out.number(static_cast<uint32_t>(nics.size()));
  for (const Nic& nic : nics) {
    out.text(nic.device);
    out.text(nic.address);
    out.number(nic.liveness_address);
    out.number(nic.liveness_key);
  }
  return out.take();
}

Result<Advertisement> Advertisement::decode(ByteView bytes) {
  const Status bad(Code::kProtocol, "the peer's libfabric endpoints cannot be understood");
  ByteReader in(bytes);
  Advertisement advertisement;
  const auto version = in.number<uint32_t>();
  advertisement.provider = in.text(kMaxName);
  advertisement.protocol = in.number<uint32_t>();
  advertisement.address_format = in.number<uint32_t>();
  const auto virtual_addresses = in.number<uint8_t>();
  advertisement.virtual_addresses = virtual_addresses == 1;
  advertisement.pieces = in.number<uint32_t>();
  const auto count = in.number<uint32_t>();
  if (!in.ok() || version != kVersion || virtual_addresses > 1 || count == 0 || count > kMaxNics ||
      advertisement.pieces == 0 || advertisement.pieces > kMaxPieces) {
    return bad;
  }
  for (uint32_t i = 0; i < count; ++i) {
    Nic nic;
    nic.device = in.text(kMaxName);
    nic.address = in.text(kMaxName);
    nic.liveness_address = in.number<uint64_t>();
    nic.liveness_key = in.number<uint64_t>();
    advertisement.nics.push_back(std::move(nic));
  }
  if (!in.complete()) return bad;
  return advertisement;
}

Bytes Hello::encode() const {
  ByteWriter out;
  out.number(kVersion);
  out.number(static_cast<uint8_t>(type));
  out.number(nic);
  out.number(id);
  out.number(epoch);
  if (type != Type::kTouch) return out.take();
  out.number(static_cast<uint32_t>(ranges.size()));
  for (const Range& range : ranges) {
    out.number(range.address);
    out.number(range.length);
    out.number(range.key);
    out.number(static_cast<uint8_t>(range.write ? 1 : 0));
  }
  return out.take();
}

Result<Hello> Hello::decode(ByteView bytes) {
  ByteReader in(bytes);
  const auto version = in.number<uint32_t>();
  const auto type = in.number<uint8_t>();
  Hello hello;
  hello.type = static_cast<Type>(type);
  hello.nic = in.number<uint32_t>();
  hello.id = in.number<uint64_t>();
  hello.epoch = in.number<uint64_t>();
  const Status bad(Code::kProtocol, "fabric: the peer's exchange cannot be understood");
  if (hello.type == Type::kTouch) {
    const auto count = in.number<uint32_t>();
    if (!in.ok() || count > kMaxRanges) return bad;
    for (uint32_t i = 0; i < count; ++i) {
      Range range;
      range.address = in.number<uint64_t>();
      range.length = in.number<uint64_t>();
      range.key = in.number<uint64_t>();
      const auto write = in.number<uint8_t>();
      if (write > 1) return bad;
      range.write = write == 1;
      hello.ranges.push_back(range);
    }
  }
  if (in.complete() && version == kVersion && type >= 1 && type <= 4) return hello;
  return bad;
}

}  // namespace te::fabric
