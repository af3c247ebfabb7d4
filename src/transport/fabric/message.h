// What this transport says of itself in the descriptor, and what two sides tell each other to
// connect. Bytes from peers are decoded here and nowhere else.
//
// Values; no state.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "transfer_engine/status.h"
#include "transport/rails/key.h"

namespace te::fabric {

using rails::Key;

// One side, as its peers see it.
struct Advertisement {
  struct Nic {
    std::string device;
    Bytes address;  // as the provider gives it; its endpoints have that too. Empty: not known
    // A range that may be read by anybody: it begins with the instance of the engine.
    uint64_t liveness_address = 0;
    uint64_t liveness_key = 0;
  };

  static constexpr uint32_t kMaxNics = Key::kMaxNics;
  static constexpr uint32_t kMaxName = 256;
  static constexpr uint32_t kMaxPieces = Key::kMaxPieces;

  std::string provider;  // both sides must have the same
  uint32_t protocol = 0;
  uint32_t address_format = 0;
  bool virtual_addresses = false;  // remote memory is named by address, not by offset
  uint32_t pieces = 1;             // keys per buffer and NIC, at most kMaxPieces
  std::vector<Nic> nics;

  uint32_t key_size() const { return Key::size(nics.size(), pieces); }
  Bytes encode() const;
  // kProtocol when it cannot be understood.
  static Result<Advertisement> decode(ByteView bytes);
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
  uint32_t nic = 0;    // of the answering side
  uint64_t id = 0;     // of the path, unguessable
  uint64_t epoch = 0;  // counts its connections; of kTouch, its questions
  std::vector<Range> ranges = {};

  Bytes encode() const;
  static Result<Hello> decode(ByteView bytes);
};

}  // namespace te::fabric
