#include "core/registry.h"

#include <algorithm>
#include <charconv>

#include "base/log.h"

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

const Buffer* Registry::next_after(uint64_t address) const {
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
                              bool remote_accessible) {
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
  buffer->offset = layout_.place(length);
  buffer->location = std::move(location);
  buffer->remote_accessible = remote_accessible;
  Buffer* result = buffer.get();

  if (leaves_.empty()) {
    leaves_.emplace_back();
    firsts_.push_back(address);
  }
  const size_t index = leaf_index(address);
  Leaf& leaf = leaves_[index];
  const auto at = static_cast<ptrdiff_t>(
      std::upper_bound(leaf.addresses.begin(), leaf.addresses.end(), address) -
      leaf.addresses.begin());
  leaf.addresses.insert(leaf.addresses.begin() + at, address);
  leaf.buffers.insert(leaf.buffers.begin() + at, std::move(buffer));
  firsts_[index] = leaf.addresses.front();
  ++size_;
  if (leaf.addresses.size() > kLeafSize) {
    // Ascending registration is the usual order: leave full leaves behind, not half-full ones.
    const size_t keep =
        at + 1 == static_cast<ptrdiff_t>(leaf.addresses.size()) ? kLeafSize : kLeafSize / 2;
    Leaf right;
    right.addresses.assign(leaf.addresses.begin() + static_cast<ptrdiff_t>(keep),
                           leaf.addresses.end());
    right.buffers.assign(
        std::make_move_iterator(leaf.buffers.begin() + static_cast<ptrdiff_t>(keep)),
        std::make_move_iterator(leaf.buffers.end()));
    leaf.addresses.resize(keep);
    leaf.buffers.resize(keep);
    firsts_.insert(firsts_.begin() + static_cast<ptrdiff_t>(index) + 1, right.addresses.front());
    leaves_.insert(leaves_.begin() + static_cast<ptrdiff_t>(index) + 1, std::move(right));
  }
  return result;
}

void Registry::remove(Buffer* buffer) {
  const size_t index = leaf_index(buffer->address);
  Leaf& leaf = leaves_[index];
  const auto at = static_cast<ptrdiff_t>(
      std::lower_bound(leaf.addresses.begin(), leaf.addresses.end(), buffer->address) -
      leaf.addresses.begin());
  layout_.free(buffer->offset, buffer->length);
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

Result<std::optional<uint32_t>> parse_location(std::string_view location, uint32_t cpu_nodes) {
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
    return error(Code::kUnsupported,
                 "location '{}': device memory is not supported by the installed transports; "
                 "register host memory as 'cpu:N' or '*'",
                 location);
  }
  if (number >= cpu_nodes) {
    return error(Code::kInvalidArgument, "unknown location '{}': this machine has cpu:0 to cpu:{}",
                 location, cpu_nodes - 1);
  }
  return std::optional<uint32_t>(number);
}

}  // namespace te
