#include "transport/shm/device_slices.h"

#include <algorithm>
#include <utility>

namespace te::shm {

Status DeviceSlices::add(Slice& slice, const RangeKey& key, const std::function<void()>& wait) {
  Copy copy;
  copy.local = host_.device_memory(reinterpret_cast<uint64_t>(slice.local));
  if (copy.local == nullptr) {
    return Status(Code::kInvalidArgument, "the local memory is not on a device");
  }
  TE_RETURN_IF_ERROR(copy.local->check(slice.local, slice.length));
  for (uint64_t at = 0; at < slice.length;) {
    const uint64_t address = slice.remote_address + at;
    Link::Opened opened = link_.find_block(key, address, copy.local, wait);
    if (!opened.status.ok()) return opened.status;
    const OpenBlocks::Block& block = opened.found.block;
    const Status same = block.opened->check();
    if (!same.ok()) return error(Code::kPermission, "{}", same.message());
    const uint64_t offset = address - block.begin;
    const uint64_t length = std::min<uint64_t>(slice.length - at, block.length - offset);
    std::byte* const remote = block.opened->data() + offset;
    std::byte* const local = slice.local + at;
    const bool write = slice.opcode == Opcode::kWrite;
    copy.pieces.push_back({write ? remote : local, write ? local : remote, length});
    copy.blocks.push_back(std::move(opened.found));
    at += length;
  }
  copies_.push_back(std::move(copy));
  return {};
}

// Of one device. Pieces that follow each other at both ends are one for the driver.
Status DeviceSlices::copy_all(Copies copies) {
  std::vector<MemoryCopy> pieces;
  for (const Copy& copy : copies) {
    for (const MemoryCopy& piece : copy.pieces) add_copy(pieces, piece);
  }
  return copies.front().local->copy(pieces);
}

std::vector<Status> DeviceSlices::run() {
  std::vector<Status> ends(copies_.size());
  for (size_t begin = 0; begin < copies_.size();) {
    size_t end = begin + 1;
    while (end < copies_.size() && copies_[end].local == copies_[begin].local) ++end;
    const Copies together = Copies(copies_).subspan(begin, end - begin);
    const Status status = copy_all(together);
    // Each alone has its own answer.
    for (size_t i = begin; i < end && !status.ok(); ++i) {
      ends[i] = together.size() == 1 ? status : copy_all(Copies(copies_).subspan(i, 1));
    }
    begin = end;
  }
  return ends;
}

}  // namespace te::shm
