// What this transport says of itself in the descriptor, the keys of its buffers, and what two sides
// tell each other to connect. Bytes from peers are decoded here and nowhere else.
//
// Values; no state.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "transfer_engine/status.h"
#include "transport/rdma/gid.h"

namespace te::rdma {

// One side, as its peers see it.
struct Offer {
  struct Card {
    std::string device;
    bool infiniband = false;  // else Ethernet: the two kinds do not reach each other
  };

  static constexpr uint32_t kMaxCards = 64;
  static constexpr uint32_t kMaxName = 256;
  static constexpr uint32_t kMaxPieces = 8;

  uint32_t pieces = 1;  // keys per buffer and card, at most kMaxPieces
  std::vector<Card> cards;

  Bytes encode() const;
  // kProtocol when it cannot be understood.
  static Result<Offer> decode(ByteView bytes);
};

// Of one buffer. A buffer that is too large for one registration is registered in pieces.
struct Key {
  uint64_t base = 0;           // where the buffer begins
  uint64_t piece_bytes = 0;    // all pieces but the last
  uint64_t cards = 0;          // bit i: registered with card i
  uint64_t near = 0;           // bit i: card i is near this memory; none: nothing is known
  std::vector<uint32_t> keys;  // by card, then by piece

  static uint32_t size(const Offer& offer) {
    return static_cast<uint32_t>(kKeysAt + 4 * offer.cards.size() * offer.pieces);
  }
  Bytes encode() const;

  // By what key a range is reached. `*length` is cut at the end of the piece; false: the key does
  // not cover it. `key` holds size(offer) bytes.
  static bool find(const Offer& offer, size_t card, const std::byte* key, uint64_t address,
                   uint64_t* length, uint32_t* found);
  static uint64_t cards_of(const std::byte* key) { return load<uint64_t>(key + 16); }
  static uint64_t near_of(const std::byte* key) { return load<uint64_t>(key + 24); }

 private:
  static constexpr size_t kKeysAt = 32;
};

// One end of a connection.
struct Address {
  Gid gid{};
  uint16_t lid = 0;
  uint32_t queue_pair = 0;    // 24 bits
  uint32_t first_number = 0;  // of its packets, 24 bits
  uint8_t mtu = 0;            // as verbs count it, 1 (256 bytes) to 5 (4096)
  uint8_t reads = 0;          // that may be under way towards it
  bool infiniband = false;

  void encode(ByteWriter& out) const;
  // Not ok, or numbers out of range: `in` is bad afterwards, or false.
  static bool decode(ByteReader& in, Address* address);
};

// Asks for the other end of a connection, and is answered with its Address. The same `id` twice is
// the same connection.
struct Connect {
  uint64_t id = 0;  // unguessable: who knows it may close
  uint32_t card = 0;
  Address from;
};

// The connections are not used any more. Answered with nothing.
struct Disconnect {
  static constexpr uint32_t kMaxIds = 256;
  std::vector<uint64_t> ids;
};

using Hello = std::variant<Connect, Disconnect>;
Bytes encode(const Hello& hello);
Result<Hello> decode_hello(ByteView bytes);

Bytes encode_answer(const Address& address);
Result<Address> decode_answer(ByteView bytes);

}  // namespace te::rdma
