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

inline constexpr uint16_t kVersion = 3;

// How peers reach a range.
enum class Way : uint8_t {
  kAcross = 0,  // across process memory
  kMapped = 1,  // it lies in a memory file, which they map
  kOpened = 2,  // it lies on a device, in blocks that they open
};

// Names one registration for ever: indices are used again, generations never.
struct RangeKey {
  static constexpr uint32_t kSize = 13;

  // Without initial values, so that arrays of keys cost nothing.
  uint32_t index;
  uint64_t generation;
  Way way;

  friend bool operator==(const RangeKey&, const RangeKey&) = default;

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

// The initiator begins with kHello, and gets kWelcome. Later it asks, one question at a time: with
// kMap for the memory file of a range, and gets kMapped; with kOpen for the block that holds an
// address of a range, and gets kBlock. The target says kRelease when files, or blocks with their
// last range, went, and gets kReleased when the initiator has unmapped and closed those that it
// had.
//
// A descriptor comes along with kHello, kWelcome and kMapped: the file of the initiator's hazard
// slots, of the target's range table, of the range. With kBlock, where the block's handle is one.
enum class Kind : uint16_t {
  kHello = 1,
  kWelcome = 2,
  kMap = 3,
  kMapped = 4,
  kOpen = 5,
  kBlock = 6,
  kRelease = 7,
  kReleased = 8,
};

struct Message {
  static constexpr size_t kSize = 108;
  static constexpr size_t kTokenSize = 16;

  Kind kind = Kind::kHello;
  Code code = Code::kOk;    // kWelcome, kMapped, kBlock
  uint32_t index = 0;       // of a range; kBlock: of the block in the table of ranges
  uint64_t generation = 0;  // of the same
  // kWelcome: the cookie's address; kMapped: the range's length; kOpen: an address; kBlock: where
  // the block begins; kRelease, kReleased: how many times memory went.
  uint64_t value = 0;
  uint64_t length = 0;             // kBlock
  uint32_t type = 0;               // kBlock: of the handle
  std::array<uint8_t, 64> data{};  // kHello: begins with the token; kBlock: of the handle

  static Result<Message> decode(ByteView bytes);
  std::array<char, kSize> encode() const;
};

}  // namespace te::shm
