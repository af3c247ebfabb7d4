// What this transport says of itself in the descriptor, the keys of its buffers, and what two sides
// tell each other to connect. Bytes from peers are decoded here and nowhere else.
//
// Values; no state.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "transfer_engine/status.h"

namespace te::fabric {

// One side, as its peers see it.
struct Offer {
  struct Card {
    std::string device;
    Bytes address;  // as the provider gives it; its endpoints have that too. Empty: not known
    // A range that may be read by anybody: it begins with the instance of the engine.
    uint64_t beacon_address = 0;
    uint64_t beacon_key = 0;
  };

  static constexpr uint32_t kMaxCards = 64;
  static constexpr uint32_t kMaxName = 256;
  static constexpr uint32_t kMaxPieces = 8;

  std::string provider;  // both sides must have the same
  uint32_t protocol = 0;
  uint32_t address_format = 0;
  bool virtual_addresses = false;  // remote memory is named by address, not by offset
  uint32_t pieces = 1;             // keys per buffer and card, at most kMaxPieces
  std::vector<Card> cards;

  Bytes encode() const;
  // kProtocol when it cannot be understood.
  static Result<Offer> decode(ByteView bytes);
};

// Each connected path has an endpoint of its own at the answering side, so that what is left of one
// path can be ended without disturbing others.
struct Hello {
  enum class Type : uint8_t {
    kOpen = 1,    // makes one; those of earlier epochs are closed before the answer, its name
    kCheck = 2,   // kUnavailable unless there is this one
    kRetire = 3,  // answered when there is none up to this epoch
    kTouch = 4,   // a byte for each of `ranges`: 0 where it cannot be touched that way, else 1
  };
  // Of a registered buffer.
  struct Range {
    uint64_t address = 0;
    uint64_t length = 0;
    uint64_t key = 0;  // of the piece in which it begins
    bool write = false;
  };
  static constexpr uint32_t kMaxRanges = 1024;

  Type type = Type::kOpen;
  uint32_t card = 0;   // of the answering side
  uint64_t id = 0;     // of the path, unguessable
  uint64_t epoch = 0;  // counts its connections; of kTouch, its questions
  std::vector<Range> ranges = {};

  Bytes encode() const;
  static Result<Hello> decode(ByteView bytes);
};

// Of one buffer. A buffer that is too large for one registration is registered in pieces.
struct Key {
  uint64_t base = 0;           // where the buffer begins
  uint64_t piece_bytes = 0;    // all pieces but the last
  uint64_t cards = 0;          // bit i: registered with card i
  std::vector<uint64_t> keys;  // by card, then by piece

  static uint32_t size(const Offer& offer) {
    return static_cast<uint32_t>(24 + 8 * offer.cards.size() * offer.pieces);
  }
  Bytes encode() const;

  // Where a range is by what key. `length` is cut at the end of the piece; false: the key does not
  // cover it. `key` holds size(offer) bytes.
  struct Place {
    uint64_t address = 0;
    uint64_t length = 0;
    uint64_t key = 0;
  };
  static bool place(const Offer& offer, size_t card, const std::byte* key, uint64_t address,
                    uint64_t length, Place* place);
  // Whether the key's buffer is registered with the card.
  static bool reaches(const std::byte* key, size_t card) {
    return (cards_of(key) >> card & 1) != 0;
  }
  // Bit i: registered with card i.
  static uint64_t cards_of(const std::byte* key);
};

}  // namespace te::fabric
