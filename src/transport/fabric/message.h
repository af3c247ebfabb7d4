// What libfabric adds to advertisements and hellos. Bytes from peers are decoded here, after
// rails::Advertisement and rails::Hello.
//
// Values; no state.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "transfer_engine/status.h"
#include "transport/rails/advertisement.h"

namespace te::fabric {

using rails::Key;

// What is the same for all NICs of an engine; the driver's bytes in its advertisement.
struct ProviderInfo {
  std::string name;
  uint32_t protocol = 0;           // as libfabric counts them
  uint32_t address_format = 0;     // likewise
  bool virtual_addresses = false;  // remote memory is named by address, not by offset

  // Whether endpoints of the two talk to each other.
  bool talks_to(const ProviderInfo& other) const {
    return name == other.name && protocol == other.protocol &&
           address_format == other.address_format;
  }
  Bytes encode() const;
  // kProtocol when it cannot be understood.
  static Result<ProviderInfo> decode(ByteView bytes);
};

// How a NIC is reached; the driver's bytes for it.
struct NicAddress {
  static constexpr uint32_t kMaxName = 256;

  Bytes name;  // as the provider gives it; its endpoints have that too. Empty: not known
  // A range that may be read by anybody: it begins with the instance of the engine.
  uint64_t liveness_address = 0;
  uint64_t liveness_key = 0;

  Bytes encode() const;
  static Result<NicAddress> decode(ByteView bytes);
};

// The driver's bytes of an advertisement.
struct Advertised {
  ProviderInfo provider;
  std::vector<NicAddress> nics;

  static Result<Advertised> decode(const rails::Advertisement& advertisement);
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
