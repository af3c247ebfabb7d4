#include "transport/fabric/message.h"

#include <algorithm>

namespace te::fabric {
namespace {

constexpr uint32_t kVersion = 3;

}  // namespace

Bytes Offer::encode() const {
  ByteWriter out;
  out.number(kVersion);
  out.text(provider);
  out.number(protocol);
  out.number(address_format);
  out.number(static_cast<uint8_t>(virtual_addresses));
  out.number(pieces);
  out.number(static_cast<uint32_t>(cards.size()));
  for (const Card& card : cards) {
    out.text(card.device);
    out.text(card.address);
    out.number(card.beacon_address);
    out.number(card.beacon_key);
  }
  return out.take();
}

Result<Offer> Offer::decode(ByteView bytes) {
  const Status bad(Code::kProtocol, "the peer's libfabric endpoints cannot be understood");
  ByteReader in(bytes);
  Offer offer;
  const auto version = in.number<uint32_t>();
  offer.provider = in.text(kMaxName);
  offer.protocol = in.number<uint32_t>();
  offer.address_format = in.number<uint32_t>();
  const auto virtual_addresses = in.number<uint8_t>();
  offer.virtual_addresses = virtual_addresses == 1;
  offer.pieces = in.number<uint32_t>();
  const auto count = in.number<uint32_t>();
  if (!in.ok() || version != kVersion || virtual_addresses > 1 || count == 0 || count > kMaxCards ||
      offer.pieces == 0 || offer.pieces > kMaxPieces) {
    return bad;
  }
  for (uint32_t i = 0; i < count; ++i) {
    Card card;
    card.device = in.text(kMaxName);
    card.address = in.text(kMaxName);
    card.beacon_address = in.number<uint64_t>();
    card.beacon_key = in.number<uint64_t>();
    offer.cards.push_back(std::move(card));
  }
  if (!in.complete()) return bad;
  return offer;
}

Bytes Hello::encode() const {
  ByteWriter out;
  out.number(kVersion);
  out.number(static_cast<uint8_t>(type));
  out.number(card);
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
  hello.card = in.number<uint32_t>();
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
