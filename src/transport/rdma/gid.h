// Which of a port's addresses to use.
//
// Pure: values and plain functions.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace te::rdma {

using Gid = std::array<uint8_t, 16>;

// From bad to good.
enum class GidKind : uint8_t {
  kUnusable,   // all zeros
  kRoceV1,     // only within one Ethernet segment
  kLinkLocal,  // RoCE v2, but an address that no router passes on
  kInfiniBand,
  kRoutable,      // RoCE v2, IPv6
  kRoutableIpv4,  // RoCE v2
};

enum class GidType : uint8_t { kInfiniBand, kRoceV1, kRoceV2 };

struct GidEntry {
  uint32_t index = 0;
  GidType type = GidType::kRoceV2;
  Gid gid{};
};

GidKind kind_of(const GidEntry& entry);
// The best, the first of equals; null when none is usable.
const GidEntry* choose_gid(const std::vector<GidEntry>& entries);
// As an address: "10.0.0.1", "fe80::1".
std::string gid_text(const Gid& gid);

}  // namespace te::rdma
