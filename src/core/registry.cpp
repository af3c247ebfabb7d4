#include "core/registry.h"

#include <algorithm>
#include <charconv>

#include "base/log.h"
#include "core/descriptor.h"

namespace te {

size_t Registry::leaf_index(uint64_t address) const {
  const auto after = std::upper_bound(firsts_.begin(), firsts_.end(), address);
  return after == firsts_.begin() ? 0 : static_cast<size_t>(after - firsts_.begin()) - 1;
}

Buffer* Registry::find(uint64_t address) const {
  if (leaves_.empty()) return nullptr;
  const Leaf& leaf = leaves_[leaf_index(address)];
  const auto after = std::upper_bound(leaf.addresses.begin(), leaf.addresses.end(), address);
  if (after == leaf.addresses.begin()) return nullptr;
  Buffer* buffer = leaf.buffers[static_cast<size_t>(after - leaf.addresses.begin()) - 1].get();
  return address - buffer->address < buffer->length ? buffer : nullptr;
}

Buffer* Registry::find_exact(uint64_t address) const {
  Buffer* buffer = find(address);
  return buffer != nullptr && buffer->address == address ? buffer : nullptr;
}

Buffer* Registry::next_after(uint64_t address) const {
  if (Buffer* inside = find(address)) return inside;
  if (leaves_.empty()) return nullptr;
  const size_t index = leaf_index(address);
  const Leaf& leaf = leaves_[index];
  const auto after = std::upper_bound(leaf.addresses.begin(), leaf.addresses.end(), address);
  if (after != leaf.addresses.end()) {
    return leaf.buffers[static_cast<size_t>(after - leaf.addresses.begin())].get();
  }
  return index + 1 < leaves_.size() ? leaves_[index + 1].buffers.front().get() : nullptr;
}

Result<Buffer*> Registry::add(uint64_t address, uint64_t length, std::string location,
                              Rights remote, bool own) {
  if (address == 0) return Status(Code::kInvalidArgument, "the address of the memory is null");
  if (length == 0) return Status(Code::kInvalidArgument, "the length of the memory is 0");
  if (address + length < address) {
    return error(Code::kInvalidArgument, "{} bytes at {:#x} wrap around the address space", length,
                 address);
  }
  if (const Buffer* other = next_after(address);
      other != nullptr && other->address < address + length) {
    return error(
        Code::kAlreadyExists,
        "{} bytes at {:#x} overlap the registered {} bytes at {:#x}: unregister these first",
        length, address, other->length, other->address);
  }
  auto buffer = std::make_unique<Buffer>();
  buffer->address = address;
  buffer->length = length;
  buffer->location = std::move(location);
  buffer->remote = remote;
  buffer->offset = own ? Descriptor::kOwnOffsets + address : layout_.place(length);
  size_t index = 0;
  try {
    index = make_room(address);
  } catch (...) {
    if (!own) layout_.free(buffer->offset, length);
    throw;
  }
  // Nothing throws from here on.
  Leaf& leaf = leaves_[index];
  Buffer* result = buffer.get();
  const auto at = static_cast<ptrdiff_t>(place_in(leaf, address));
  leaf.addresses.insert(leaf.addresses.begin() + at, address);
  leaf.buffers.insert(leaf.buffers.begin() + at, std::move(buffer));
  firsts_[index] = leaf.addresses.front();
  ++size_;
  return result;
}

size_t Registry::place_in(const Leaf& leaf, uint64_t address) {
  return static_cast<size_t>(
      std::lower_bound(leaf.addresses.begin(), leaf.addresses.end(), address) -
      leaf.addresses.begin());
}

size_t Registry::make_room(uint64_t address) {
  const size_t index = leaves_.empty() ? 0 : leaf_index(address);
  const bool empty = leaves_.empty();
  if (!empty && leaves_[index].addresses.size() < kLeafSize) return index;
  Leaf fresh;
  fresh.addresses.reserve(kLeafSize);
  fresh.buffers.reserve(kLeafSize);
  if (leaves_.capacity() == leaves_.size()) leaves_.reserve(2 * leaves_.size() + 1);
  if (firsts_.capacity() == firsts_.size()) firsts_.reserve(2 * firsts_.size() + 1);
  if (empty) {
    leaves_.push_back(std::move(fresh));
    firsts_.push_back(address);
    return 0;
  }
  // Ascending registration is the usual order: leave full leaves behind, not half-full ones.
  Leaf& full = leaves_[index];
  const size_t keep = place_in(full, address) == kLeafSize ? kLeafSize : kLeafSize / 2;
  const auto moved = static_cast<ptrdiff_t>(keep);
  fresh.addresses.assign(full.addresses.begin() + moved, full.addresses.end());
  fresh.buffers.assign(std::make_move_iterator(full.buffers.begin() + moved),
                       std::make_move_iterator(full.buffers.end()));
  full.addresses.resize(keep);
  full.buffers.resize(keep);
  const uint64_t first = fresh.addresses.empty() ? address : fresh.addresses.front();
  firsts_.insert(firsts_.begin() + static_cast<ptrdiff_t>(index) + 1, first);
  leaves_.insert(leaves_.begin() + static_cast<ptrdiff_t>(index) + 1, std::move(fresh));
  return address < first ? index : index + 1;
}

std::unique_ptr<Buffer> Registry::replace(Buffer* buffer, std::unique_ptr<Buffer> fresh) {
  Leaf& leaf = leaves_[leaf_index(buffer->address)];
  std::unique_ptr<Buffer>& slot = leaf.buffers[place_in(leaf, buffer->address)];
  slot.swap(fresh);
  return fresh;
}

void Registry::remove(Buffer* buffer) {
  const size_t index = leaf_index(buffer->address);
  Leaf& leaf = leaves_[index];
  const auto at = static_cast<ptrdiff_t>(place_in(leaf, buffer->address));
  if (buffer->offset < Descriptor::kOwnOffsets) layout_.free(buffer->offset, buffer->length);
  leaf.addresses.erase(leaf.addresses.begin() + at);
  leaf.buffers.erase(leaf.buffers.begin() + at);
  --size_;
  if (leaf.addresses.empty()) {
    leaves_.erase(leaves_.begin() + static_cast<ptrdiff_t>(index));
    firsts_.erase(firsts_.begin() + static_cast<ptrdiff_t>(index));
  } else {
    firsts_[index] = leaf.addresses.front();
  }
}

Result<std::optional<uint32_t>> parse_location(std::string_view location, uint32_t cpu_nodes,
                                               MemoryKinds kinds) {
  if (location == "*") return std::optional<uint32_t>();
  const size_t colon = location.find(':');
  const std::string_view kind = location.substr(0, colon);
  uint32_t number = 0;
  bool numbered = false;
  if (colon != std::string_view::npos) {
    const std::string_view digits = location.substr(colon + 1);
    const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    numbered = ec == std::errc() && end == digits.data() + digits.size() && !digits.empty();
  }
  if (!numbered || (kind != "cpu" && kind != "cuda")) {
    return error(Code::kInvalidArgument,
                 "unknown location '{}': give 'cpu:N' (memory node N), 'cuda:N' or '*' (found out)",
                 location);
  }
  if (kind == "cuda") {
    if (kinds.contains(MemoryKind::kCuda)) return std::optional<uint32_t>();
    return error(
        Code::kUnsupported,
        "location '{}': the engine allocates host memory only; give 'cpu:N' or '*', or allocate "
        "memory of the GPU with its driver and register that",
        location);
  }
  if (number >= cpu_nodes) {
    return error(Code::kInvalidArgument, "unknown location '{}': this machine has cpu:0 to cpu:{}",
                 location, cpu_nodes - 1);
  }
  return std::optional<uint32_t>(number);
}

}  // namespace te
