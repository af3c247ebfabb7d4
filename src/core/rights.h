// What may be done to a range of memory: by peers, or by this process.
#pragma once

#include <cstdint>
#include <string_view>

#include "transfer_engine/types.h"

namespace te {

// Bits, as they travel in descriptors.
enum class Rights : uint8_t { kNone = 0, kRead = 1, kWrite = 2, kBoth = 3 };

constexpr Rights operator&(Rights a, Rights b) {
  return static_cast<Rights>(static_cast<uint8_t>(a) & static_cast<uint8_t>(b));
}
constexpr Rights operator|(Rights a, Rights b) {
  return static_cast<Rights>(static_cast<uint8_t>(a) | static_cast<uint8_t>(b));
}
constexpr bool contains(Rights rights, Rights wanted) { return (rights & wanted) == wanted; }

// What a request takes at the target; at the source it takes the other one.
constexpr Rights target_rights(Opcode opcode) {
  return opcode == Opcode::kRead ? Rights::kRead : Rights::kWrite;
}
constexpr Rights source_rights(Opcode opcode) {
  return opcode == Opcode::kRead ? Rights::kWrite : Rights::kRead;
}

// For messages: "READ", "WRITE", "READ and WRITE", "no access".
constexpr std::string_view rights_name(Rights rights) {
  constexpr std::string_view kNames[] = {"no access", "READ", "WRITE", "READ and WRITE"};
  return kNames[static_cast<uint8_t>(rights)];
}

// What `access` asks for; kDefault: as much as the memory allows.
constexpr Rights asked_rights(Access access) {
  switch (access) {
    case Access::kNone:
      return Rights::kNone;
    case Access::kRead:
      return Rights::kRead;
    case Access::kWrite:
      return Rights::kWrite;
    default:
      return Rights::kBoth;
  }
}
constexpr Access access_of(Rights rights) {
  constexpr Access kAccess[] = {Access::kNone, Access::kRead, Access::kWrite, Access::kReadWrite};
  return kAccess[static_cast<uint8_t>(rights)];
}

}  // namespace te
