// What memory is made of, which decides who can touch it: a processor, a NIC, a copy engine.
//
// Pure: values.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "transfer_engine/types.h"

namespace te {

// For messages: "host memory".
inline std::string kind_name(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::kHost:
      return "host memory";
    case MemoryKind::kCuda:
      return "CUDA memory";
    case MemoryKind::kFile:
      return "file memory";
  }
  return "memory of kind " + std::to_string(static_cast<int>(kind));
}

class MemoryKinds {
 public:
  constexpr MemoryKinds(std::initializer_list<MemoryKind> kinds) {
    for (const MemoryKind kind : kinds) bits_ |= bit(kind);
  }
  static constexpr MemoryKinds all_but_host() {
    MemoryKinds kinds({});
    kinds.bits_ = ~bit(MemoryKind::kHost);
    return kinds;
  }
  constexpr void add(MemoryKind kind) { bits_ |= bit(kind); }
  constexpr bool contains(MemoryKind kind) const { return (bits_ & bit(kind)) != 0; }

 private:
  // Kinds that no transport of this release can declare share the last bit.
  static constexpr uint64_t bit(MemoryKind kind) {
    return uint64_t{1} << (static_cast<uint8_t>(kind) < 63 ? static_cast<uint8_t>(kind) : 63);
  }

  uint64_t bits_ = 0;
};

// The kinds that a transport reaches at either end, with no copy in between.
struct Reach {
  MemoryKinds local{MemoryKind::kHost};   // memory of the engine that begins the transfer
  MemoryKinds remote{MemoryKind::kHost};  // memory of the target

  constexpr bool covers(MemoryKind here, MemoryKind there) const {
    return local.contains(here) && remote.contains(there);
  }
};

}  // namespace te
