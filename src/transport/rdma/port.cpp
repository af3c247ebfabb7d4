#include "transport/rdma/port.h"

#include <algorithm>
#include <vector>

#include "base/fd.h"
#include "base/log.h"

namespace te::rdma {
namespace {

constexpr size_t kMaxGids = 256;
constexpr uint64_t kLargestMessage = 1u << 30;

int query_port(const Library& library, ibv_context* context, uint8_t port, ibv_port_attr* result) {
  *result = {};
  if (const verbs_context* verbs = verbs_get_ctx_op(context, query_port); verbs != nullptr) {
    return verbs->query_port(context, port, result, sizeof *result);
  }
  return library.devices.query_port(context, port,
                                    reinterpret_cast<_compat_ibv_port_attr*>(result));
}

// Of one lane, in bits.
uint64_t lane_speed(uint32_t active_speed) {
  switch (active_speed) {
    case 1:
      return 2'500'000'000;
    case 2:
      return 5'000'000'000;
    case 4:
    case 8:
      return 10'000'000'000;
    case 16:
      return 14'062'500'000;
    case 32:
      return 25'781'250'000;
    case 64:
      return 53'125'000'000;
    case 128:
      return 106'250'000'000;
    default:
      return 0;
  }
}

uint64_t lanes(uint8_t active_width) {
  switch (active_width) {
    case 2:
      return 4;
    case 4:
      return 8;
    case 8:
      return 12;
    case 16:
      return 2;
    default:
      return 1;
  }
}

std::string_view state_name(int state) {
  switch (state) {
    case IBV_PORT_DOWN:
      return "down";
    case IBV_PORT_INIT:
      return "init: no subnet manager has set it up";
    case IBV_PORT_ARMED:
      return "armed";
    case IBV_PORT_ACTIVE:
      return "active";
    case IBV_PORT_ACTIVE_DEFER:
      return "active, deferred";
    default:
      return "unknown";
  }
}

}  // namespace

std::string Port::state_text() const {
  return fmt::format("{} port {}: {}", device_, number_, lost() ? "gone" : state_name(state_));
}

Status Port::find(ibv_context* context, uint8_t count) {
  context_ = context;
  ibv_port_attr attributes{};
  for (uint8_t port = 1; port <= count; ++port) {
    ibv_port_attr found{};
    if (query_port(library_, context, port, &found) != 0) continue;
    const bool better = attributes.state != IBV_PORT_ACTIVE && found.state == IBV_PORT_ACTIVE;
    if (attributes.state != IBV_PORT_NOP && !better) continue;
    attributes = found;
    number_ = port;
  }
  if (attributes.state == IBV_PORT_NOP) {
    return error(Code::kUnsupported, "{}: no port tells its state", device_);
  }
  if (context->device->transport_type != IBV_TRANSPORT_IB) {
    return error(Code::kUnsupported, "{}: neither InfiniBand nor RoCE", device_);
  }
  state_ = attributes.state;
  active_ = attributes.state == IBV_PORT_ACTIVE;
  infiniband_ = attributes.link_layer != IBV_LINK_LAYER_ETHERNET;
  needs_gid_ =
      !infiniband_ || attributes.lid == 0 || (attributes.flags & IBV_QPF_GRH_REQUIRED) != 0;
  mtu_ = static_cast<uint8_t>(attributes.active_mtu);
  bytes_per_s_ = lane_speed(attributes.active_speed) * lanes(attributes.active_width) / 8;
  max_message_ = std::min<uint64_t>(attributes.max_msg_sz, kLargestMessage);
  if (max_message_ == 0) max_message_ = kLargestMessage;
  return {};
}

bool Port::refresh() {
  ibv_port_attr attributes{};
  if (query_port(library_, context_, number_, &attributes) != 0) {
    if (lost_) active_ = false;
    return false;
  }
  state_ = attributes.state;
  if (attributes.active_mtu != 0) mtu_ = static_cast<uint8_t>(attributes.active_mtu);
  const bool now = attributes.state == IBV_PORT_ACTIVE && !lost_;
  return !active_.exchange(now) && now;
}

Status Port::choose_address(Address* address, uint32_t* gid_index) const {
  ibv_port_attr attributes{};
  if (const int result = query_port(library_, context_, number_, &attributes); result != 0) {
    return error(Code::kUnavailable, "{}: the port does not tell its state: {}", device_,
                 errno_text(result));
  }
  address->lid = attributes.lid;
  address->infiniband = infiniband_;
  address->mtu = mtu_;
  std::vector<ibv_gid_entry> table(kMaxGids);
  const ssize_t count =
      library_.devices.query_gids(context_, table.data(), table.size(), 0, sizeof(ibv_gid_entry));
  std::vector<GidEntry> entries;
  for (ssize_t i = 0; i < count; ++i) {
    const ibv_gid_entry& entry = table[static_cast<size_t>(i)];
    if (entry.port_num != number_) continue;
    GidEntry& added = entries.emplace_back();
    added.index = entry.gid_index;
    added.type = static_cast<GidType>(std::min<uint32_t>(entry.gid_type, IBV_GID_TYPE_ROCE_V2));
    std::copy(std::begin(entry.gid.raw), std::end(entry.gid.raw), added.gid.begin());
  }
  const GidEntry* chosen = choose_gid(entries);
  if (chosen != nullptr) {
    address->gid = chosen->gid;
    *gid_index = chosen->index;
  } else if (needs_gid_) {
    return error(Code::kUnavailable,
                 "{}: port {} has no usable GID: give its network interface an address", device_,
                 number_);
  }
  return {};
}

}  // namespace te::rdma
