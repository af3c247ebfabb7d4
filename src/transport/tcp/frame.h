// The frames of a TCP data connection, after the hello. docs/wire.md describes them.
//
// The side that connected sends requests; the other answers. Every request has a sequence number,
// counted from 0 in the order of sending, that nobody sends. Requests are carried out in that
// order. A WRITE frame of no request is answered like any other: it asks whether the peer is there.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "core/access_table.h"
#include "transfer_engine/status.h"

namespace te::tcp {

inline constexpr uint16_t kMaxRequestsPerFrame = 128;
inline constexpr uint32_t kWindow = 1024;  // requests outstanding on a connection
// Larger ones are cut by the engine; a frame holds at most this many bytes, or one request.
inline constexpr uint64_t kFrameBytes = 1 << 20;
// Received at once from one connection: then others of its event loop have their turn.
inline constexpr size_t kTurnBytes = 8 << 20;
inline constexpr uint32_t kMaxRequestLength = 1u << 30;

enum class RequestType : uint8_t { kWrite = 1, kRead = 2 };

// Then `count` entries, then for kWrite the bytes of all of them, end to end.
struct RequestHeader {
  static constexpr size_t kSize = 16;

  RequestType type = RequestType::kWrite;
  uint16_t count = 0;
  uint64_t payload = 0;

  void encode(std::byte* to) const {
    store(to, static_cast<uint8_t>(type));
    store(to + 1, uint8_t{0});
    store(to + 2, count);
    store(to + 4, uint32_t{0});
    store(to + 8, payload);
  }
  static RequestHeader decode(const std::byte* from) {
    return {static_cast<RequestType>(load<uint8_t>(from)), load<uint16_t>(from + 2),
            load<uint64_t>(from + 8)};
  }
  bool valid() const {
    if (count > kMaxRequestsPerFrame) return false;
    if (type == RequestType::kRead) return count > 0 && payload == 0;
    return type == RequestType::kWrite && (count > 0 || payload == 0);
  }
};

struct RequestEntry {
  static constexpr size_t kSize = 12 + AccessKey::kSize;

  uint64_t address = 0;
  uint32_t length = 0;
  AccessKey key;

  static RequestEntry decode(const std::byte* from) {
    return {load<uint64_t>(from), load<uint32_t>(from + 8), AccessKey::decode(from + 12)};
  }
  // `key` as it came in the descriptor.
  static void encode(std::byte* to, uint64_t address, uint32_t length, const std::byte* key) {
    store(to, address);
    store(to + 8, length);
    std::memcpy(to + 12, key, AccessKey::kSize);
  }
};

enum class AnswerType : uint8_t {
  kAck = 1,    // every WRITE below `sequence` that was not refused is in place
  kData = 2,   // the bytes of the `count` READs from `sequence` on follow, end to end
  kError = 3,  // the request `sequence` was refused with `code`
};

struct AnswerHeader {
  static constexpr size_t kSize = 16;

  AnswerType type = AnswerType::kAck;
  Code code = Code::kOk;
  uint32_t count = 0;
  uint64_t sequence = 0;

  void encode(std::byte* to) const {
    store(to, static_cast<uint8_t>(type));
    store(to + 1, static_cast<uint8_t>(-static_cast<int32_t>(code)));
    store(to + 2, uint16_t{0});
    store(to + 4, count);
    store(to + 8, sequence);
  }
  static AnswerHeader decode(const std::byte* from) {
    AnswerHeader header;
    header.type = static_cast<AnswerType>(load<uint8_t>(from));
    const int32_t code = -static_cast<int32_t>(load<uint8_t>(from + 1));
    header.code =
        code >= static_cast<int32_t>(Code::kInternal) ? static_cast<Code>(code) : Code::kInternal;
    header.count = load<uint32_t>(from + 4);
    header.sequence = load<uint64_t>(from + 8);
    return header;
  }
};

// An exchange: no connection of the session up to `epoch` carries anything from here on. Answered
// with nothing, when that is so.
struct Retire {
  uint64_t session = 0;
  uint64_t epoch = 0;

  Bytes encode() const {
    ByteWriter out;
    out.number(kVersion);
    out.number(session);
    out.number(epoch);
    return out.take();
  }
  static Result<Retire> decode(ByteView bytes) {
    ByteReader in(bytes);
    const auto version = in.number<uint32_t>();
    Retire retire;
    retire.session = in.number<uint64_t>();
    retire.epoch = in.number<uint64_t>();
    if (in.complete() && version == kVersion) return retire;
    return Status(Code::kProtocol, "tcp: the peer's exchange cannot be understood");
  }

 private:
  static constexpr uint32_t kVersion = 1;
};

inline constexpr size_t kMaxFrameHead =
    RequestHeader::kSize + kMaxRequestsPerFrame * RequestEntry::kSize;

}  // namespace te::tcp
