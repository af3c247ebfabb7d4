#include "core/stage_message.h"

#include <array>

namespace te::stage {
namespace {

constexpr uint32_t kVersion = 2;
enum class Type : uint8_t { kOpen = 1, kCopy = 2, kClose = 3 };

void start(ByteWriter& out, Type type, uint64_t lease) {
  out.number(kVersion);
  out.number(static_cast<uint8_t>(type));
  out.number(lease);
}

Status bad() { return Status(Code::kProtocol, "what the peer asks to stage makes no sense"); }

Result<Hello> decode_open(uint64_t lease, ByteReader& in) {
  Open open;
  open.lease = lease;
  open.parts = in.number<uint32_t>();
  open.part_bytes = in.number<uint64_t>();
  if (!in.complete() || open.parts == 0 || open.parts > kMaxParts || open.part_bytes == 0 ||
      open.part_bytes > kMaxPartBytes) {
    return bad();
  }
  return Hello(open);
}

Result<Hello> decode_copy(uint64_t lease, ByteReader& in) {
  Copy copy;
  copy.lease = lease;
  copy.sequence = in.number<uint64_t>();
  copy.part = in.number<uint32_t>();
  const auto into_part = in.number<uint8_t>();
  copy.into_part = into_part == 1;
  const auto count = in.number<uint32_t>();
  if (!in.ok() || into_part > 1 || copy.part >= kMaxParts || copy.sequence == 0 || count == 0 ||
      count > kMaxRanges) {
    return bad();
  }
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < count; ++i) {
    Range range;
    range.address = in.number<uint64_t>();
    range.length = in.number<uint64_t>();
    const std::string_view key = in.view(AccessKey::kSize);
    if (!in.ok() || range.length == 0 || range.length > kMaxPartBytes - bytes) return bad();
    range.key = AccessKey::decode(as_bytes(key).data());
    bytes += range.length;
    copy.ranges.push_back(range);
  }
  if (!in.complete()) return bad();
  return Hello(std::move(copy));
}

}  // namespace

Bytes encode(const Hello& hello) {
  ByteWriter out;
  if (const Open* open = std::get_if<Open>(&hello)) {
    start(out, Type::kOpen, open->lease);
    out.number(open->parts);
    out.number(open->part_bytes);
  } else if (const Copy* copy = std::get_if<Copy>(&hello)) {
    start(out, Type::kCopy, copy->lease);
    out.number(copy->sequence);
    out.number(copy->part);
    out.number(static_cast<uint8_t>(copy->into_part));
    out.number(static_cast<uint32_t>(copy->ranges.size()));
    for (const Range& range : copy->ranges) {
      out.number(range.address);
      out.number(range.length);
      std::array<char, AccessKey::kSize> key{};
      range.key.encode(reinterpret_cast<std::byte*>(key.data()));
      out.raw({key.data(), key.size()});
    }
  } else {
    start(out, Type::kClose, std::get<Close>(hello).lease);
  }
  return out.take();
}

Result<Hello> decode_hello(ByteView bytes) {
  ByteReader in(bytes);
  const auto version = in.number<uint32_t>();
  const auto type = in.number<uint8_t>();
  const auto lease = in.number<uint64_t>();
  if (!in.ok() || version != kVersion) return bad();
  switch (static_cast<Type>(type)) {
    case Type::kOpen:
      return decode_open(lease, in);
    case Type::kCopy:
      return decode_copy(lease, in);
    case Type::kClose:
      if (in.complete()) return Hello(Close{lease});
  }
  return bad();
}

Bytes encode_answer(const Opened& opened) {
  ByteWriter out;
  out.number(kVersion);
  out.number(opened.address);
  out.number(opened.part_bytes);
  return out.take();
}

Result<Opened> decode_answer(ByteView bytes) {
  ByteReader in(bytes);
  const auto version = in.number<uint32_t>();
  Opened opened;
  opened.address = in.number<uint64_t>();
  opened.part_bytes = in.number<uint64_t>();
  if (!in.complete() || version != kVersion || opened.part_bytes == 0 ||
      opened.part_bytes > kMaxPartBytes) {
    return Status(Code::kProtocol, "the peer's answer to staging makes no sense");
  }
  return opened;
}

}  // namespace te::stage
