#include "transport/rdma/gid.h"

#include <arpa/inet.h>

#include <algorithm>

namespace te::rdma {
namespace {

bool is_ipv4(const Gid& gid) {
  return std::all_of(gid.begin(), gid.begin() + 10, [](uint8_t byte) { return byte == 0; }) &&
         gid[10] == 0xFF && gid[11] == 0xFF;
}

}  // namespace

GidKind kind_of(const GidEntry& entry) {
  const Gid& gid = entry.gid;
  if (std::all_of(gid.begin(), gid.end(), [](uint8_t byte) { return byte == 0; })) {
    return GidKind::kUnusable;
  }
  if (entry.type == GidType::kInfiniBand) return GidKind::kInfiniBand;
  if (entry.type == GidType::kRoceV1) return GidKind::kRoceV1;
  if (is_ipv4(gid)) {
    return gid[12] == 169 && gid[13] == 254 ? GidKind::kLinkLocal : GidKind::kRoutableIpv4;
  }
  return gid[0] == 0xFE && (gid[1] & 0xC0) == 0x80 ? GidKind::kLinkLocal : GidKind::kRoutable;
}

const GidEntry* choose_gid(const std::vector<GidEntry>& entries) {
  const auto best = std::max_element(
      entries.begin(), entries.end(),
      [](const GidEntry& a, const GidEntry& b) { return kind_of(a) < kind_of(b); });
  return best == entries.end() || kind_of(*best) == GidKind::kUnusable ? nullptr : &*best;
}

std::string gid_text(const Gid& gid) {
  char text[INET6_ADDRSTRLEN] = "";
  if (is_ipv4(gid)) {
    ::inet_ntop(AF_INET, gid.data() + 12, text, sizeof text);
  } else {
    ::inet_ntop(AF_INET6, gid.data(), text, sizeof text);
  }
  return text;
}

}  // namespace te::rdma
