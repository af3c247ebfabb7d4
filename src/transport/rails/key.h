// What peers must show to touch a buffer through the NICs of an engine: a key for each NIC and each
// piece. A buffer that is too large for one memory region is registered in pieces.
//
// Values; no state.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "core/nic_affinity.h"

namespace te::rails {

struct Key {
  static constexpr uint32_t kMaxNics = 64;
  static constexpr uint32_t kMaxPieces = 8;

  uint64_t base = 0;           // where the buffer begins
  uint64_t piece_bytes = 0;    // all pieces but the last
  NicSet nics = 0;             // registered with these
  NicSet near = 0;             // those near this memory; none: nothing is known
  std::vector<uint64_t> keys;  // by NIC, then by piece

  static uint32_t size(size_t nics, uint32_t pieces) {
    return static_cast<uint32_t>(kKeysAt + sizeof(uint64_t) * nics * pieces);
  }
  // As many as a descriptor has room for, at least one.
  static uint32_t most_pieces(size_t nics);
  Bytes encode() const;

  // The functions below take size() bytes, as a peer sent them.
  static NicSet nics_of(const std::byte* key) { return load<NicSet>(key + 16); }
  static NicSet near_of(const std::byte* key) { return load<NicSet>(key + 24); }
  struct Place {
    uint64_t key = 0;
    uint64_t length = 0;  // cut at the end of the piece
    uint64_t offset = 0;  // in the piece
  };
  // By what key a range is reached through the NIC. False: the key does not cover it.
  static bool find(const std::byte* key, size_t nic, uint32_t pieces, uint64_t address,
                   uint64_t length, Place* place);

 private:
  static constexpr size_t kKeysAt = 32;
};

}  // namespace te::rails
