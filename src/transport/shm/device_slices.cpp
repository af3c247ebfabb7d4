#include "transport/shm/device_slices.h"

#include <algorithm>
#include <utility>

#include "base/guarded_copy.h"

namespace te::shm {
namespace {

// Of a file that is mapped: so much is pinned at once, when a copy first reaches it. It takes some
// milliseconds.
constexpr uint64_t kWindow = 32 << 20;
constexpr uint64_t kPage = 4096;

bool is_accessible(std::byte* begin, uint64_t length, bool is_source) {
  return is_source ? is_readable(begin, length) : is_writable(begin, length);
}

}  // namespace

void DeviceSlices::Copy::add(const Slice& slice, uint64_t at, std::byte* remote, uint64_t length,
                             bool is_apart) {
  std::byte* const local = slice.local + at;
  const bool write = slice.opcode == Opcode::kWrite;
  pieces.push_back({{write ? remote : local, write ? local : remote, length}, is_apart});
}

// The GPU of the local memory; for host memory one that this process uses anyway. The driver reads
// and writes host memory by itself: what became inaccessible must not reach it.
Status DeviceSlices::find_device(const Slice& slice, const RangeKey& key, Link::Copier& copier) {
  copier.memory = host_.device_memory(reinterpret_cast<uint64_t>(slice.local));
  if (copier.memory != nullptr) return copier.memory->check(slice.local, slice.length);
  if (slice.task->kind != MemoryKind::kHost) {
    return Status(Code::kInvalidArgument, "the local memory is not on a device any more");
  }
  if (!is_accessible(slice.local, slice.length, slice.opcode == Opcode::kWrite)) {
    return Status(Code::kInvalidArgument,
                  "it is not accessible: was it unmapped or protected, or its file truncated?");
  }
  copier.local = OpenBlocks::Local::kHost;
  if (any_device_ == nullptr) {
    Result<std::shared_ptr<const DeviceMemory>> device = host_.any_device(MemoryKind::kCuda);
    if (!device.ok()) {
      link_.refuse_host_memory(key, device.status());
      return Status(Code::kUnavailable, device.status().message());
    }
    any_device_ = device.take();
  }
  copier.memory = any_device_;
  return {};
}

Status DeviceSlices::add(Slice& slice, const RangeKey& key, const std::function<void()>& wait) {
  Link::Copier copier;
  TE_RETURN_IF_ERROR(find_device(slice, key, copier));
  Copy copy;
  copy.by = copier.memory;
  for (uint64_t at = 0; at < slice.length;) {
    const uint64_t address = slice.remote_address + at;
    Link::Opened opened = link_.find_block(key, address, copier, wait);
    if (!opened.status.ok()) return opened.status;
    const OpenBlocks::Block& block = opened.found.block;
    const Status same = block.opened->check();
    if (!same.ok()) return error(Code::kPermission, "{}", same.message());
    const uint64_t offset = address - block.begin;
    const uint64_t length = std::min<uint64_t>(slice.length - at, block.length - offset);
    copy.add(slice, at, block.opened->data() + offset, length);
    copy.blocks.push_back(std::move(opened.found));
    at += length;
  }
  copies_.push_back(std::move(copy));
  return {};
}

// A window that is pinned is a range of the driver's, and a copy reaches into no other one. Where
// it is not pinned, the driver copies through pages of its own, with plain instructions.
Status DeviceSlices::add_mapped(Slice& slice, std::shared_ptr<const Mapping> file,
                                uint64_t offset) {
  Copy copy;
  copy.by = host_.device_memory(reinterpret_cast<uint64_t>(slice.local));
  if (copy.by == nullptr) {
    return Status(Code::kInvalidArgument, "the local memory is not on a device any more");
  }
  TE_RETURN_IF_ERROR(copy.by->check(slice.local, slice.length));
  const uint64_t size = (file->size() + kPage - 1) / kPage * kPage;
  for (uint64_t at = 0; at < slice.length;) {
    const uint64_t window = (offset + at) / kWindow * kWindow;
    const uint64_t end = std::min(window + kWindow, size);
    const uint64_t length = std::min<uint64_t>(slice.length - at, end - offset - at);
    std::byte* const remote = file->data() + offset + at;
    copy.pins.push_back(copy.by->pin(file->data() + window, end - window));
    const bool is_source = slice.opcode == Opcode::kRead;
    if (copy.pins.back() == nullptr && !is_accessible(remote, length, is_source)) {
      return Status(Code::kPermission, "the target's memory is not accessible");
    }
    copy.add(slice, at, remote, length, offset + at == window);
    at += length;
  }
  copy.file = std::move(file);
  copies_.push_back(std::move(copy));
  return {};
}

// Of one device. Pieces that follow each other at both ends are one for the driver.
Status DeviceSlices::copy_all(Copies copies) {
  std::vector<MemoryCopy> pieces;
  for (const Copy& copy : copies) {
    for (const Piece& piece : copy.pieces) {
      if (piece.is_apart) {
        pieces.push_back(piece.copy);
      } else {
        add_copy(pieces, piece.copy);
      }
    }
  }
  return copies.front().by->copy(pieces);
}

std::vector<Status> DeviceSlices::run() {
  std::vector<Status> ends(copies_.size());
  for (size_t begin = 0; begin < copies_.size();) {
    size_t end = begin + 1;
    while (end < copies_.size() && copies_[end].by == copies_[begin].by) ++end;
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
