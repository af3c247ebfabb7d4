// What engines of one host say to each other before they touch each other's memory: the bytes of
// the descriptor's part, of the key of a buffer, and of the messages on the local socket.
//
// All comes from peers, so decoding trusts nothing. Values; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "core/registry.h"
#include "transfer_engine/status.h"

namespace te::shm {

inline constexpr uint16_t kVersion = 1;

// Names one registration for ever: indices are used again, generations never.
struct RangeKey {
  static constexpr uint32_t kSize = 13;

  // Without initial values, so that arrays of keys cost nothing.
  uint32_t index;
  uint64_t generation;
  bool mapped;  // in a memory file, which peers map

  // Of kSize bytes.
  static RangeKey decode(const std::byte* from);
  Bytes encode() const;
};

// In the descriptor: what whoever connects has to show, and what the target's memory has to show.
struct Advertisement {
  static constexpr size_t kSize = 50;

  std::array<uint8_t, 16> token{};
  std::array<uint8_t, 32> cookie{};

  static Result<Advertisement> decode(ByteView bytes);
  Bytes encode() const;
};

// The initiator begins with kHello, and gets kWelcome; later it asks with kMap for the memory file
// of a range, and gets kMapped. A descriptor comes along with all but kMap: the file of the
// initiator's hazard slots, of the target's range table, of the range.
enum class Kind : uint16_t { kHello = 1, kWelcome = 2, kMap = 3, kMapped = 4 };

struct Message {
  static constexpr size_t kSize = 48;

  Kind kind = Kind::kHello;
  Code code = Code::kOk;            // kWelcome, kMapped
  uint32_t index = 0;               // kMap, kMapped
  uint64_t generation = 0;          // kMap, kMapped
  uint64_t value = 0;               // kWelcome: the cookie's address; kMapped: the range's length
  std::array<uint8_t, 16> token{};  // kHello

  static Result<Message> decode(ByteView bytes);
  std::array<char, kSize> encode() const;
};

}  // namespace te::shm
