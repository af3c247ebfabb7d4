#include "core/descriptor.h"

#include <algorithm>
#include <numeric>

#include "base/log.h"

namespace te {
namespace {

constexpr uint32_t kMaxNameSize = 64;
constexpr uint32_t kMaxLocations = 65'536;
constexpr uint32_t kMaxInfoSize = 1 << 20;
constexpr size_t kBufferBytes = 30;  // of each, before its keys

Status wraps(const RemoteRange& range) {
  return error(Code::kOutOfRange, "{} bytes at target offset {:#x} wrap around 2^64", range.length,
               range.target_offset);
}

}  // namespace

void Descriptor::add(const RemoteBuffer& buffer, const std::vector<std::string_view>& keys) {
  if (row_size_ == 0) {
    for (const Transport& transport : transports) {
      key_offsets_.push_back(row_size_);
      row_size_ += 1 + transport.key_size;
    }
  }
  buffers_.push_back(buffer);
  const size_t row = keys_.size();
  keys_.resize(row + row_size_);
  for (size_t i = 0; i < transports.size() && i < keys.size(); ++i) {
    if (keys[i].size() != transports[i].key_size || keys[i].empty()) continue;
    std::byte* slot = keys_.data() + row + key_offsets_[i];
    *slot = std::byte{1};
    std::memcpy(slot + 1, keys[i].data(), keys[i].size());
  }
}

Status Descriptor::finish() {
  rows_.resize(buffers_.size());
  std::iota(rows_.begin(), rows_.end(), 0u);
  std::sort(rows_.begin(), rows_.end(),
            [this](uint32_t a, uint32_t b) { return buffers_[a].offset < buffers_[b].offset; });
  std::vector<RemoteBuffer> sorted;
  sorted.reserve(buffers_.size());
  for (const uint32_t row : rows_) sorted.push_back(buffers_[row]);
  buffers_ = std::move(sorted);
  laid_out_ = static_cast<size_t>(
      std::partition_point(buffers_.begin(), buffers_.end(),
                           [](const RemoteBuffer& b) { return b.offset < kOwnOffsets; }) -
      buffers_.begin());
  by_address_.resize(buffers_.size());
  std::iota(by_address_.begin(), by_address_.end(), 0u);
  std::sort(by_address_.begin(), by_address_.end(),
            [this](uint32_t a, uint32_t b) { return buffers_[a].address < buffers_[b].address; });
  for (size_t i = 0; i < buffers_.size(); ++i) {
    const RemoteBuffer& at = buffers_[i];
    bool bad = at.length == 0 || at.offset + at.length < at.offset ||
               at.address + at.length < at.address || at.location >= locations.size();
    if (i + 1 < buffers_.size()) {
      const RemoteBuffer& low = buffers_[by_address_[i]];
      bad = bad || buffers_[i + 1].offset - at.offset < at.length ||
            buffers_[by_address_[i + 1]].address - low.address < low.length;
    }
    if (bad) return Status(Code::kProtocol, "the segment's description contradicts itself");
  }
  return {};
}

Bytes Descriptor::encode() const {
  ByteWriter out;
  out.reserve(64 + buffers_.size() * (kBufferBytes + row_size_));
  out.number(instance);
  out.number(generation);
  out.number(static_cast<uint32_t>(transports.size()));
  for (const Transport& transport : transports) {
    out.text(transport.name);
    out.number(transport.key_size);
    out.text(transport.info);
  }
  out.number(static_cast<uint32_t>(locations.size()));
  for (const std::string& location : locations) out.text(location);
  out.number(static_cast<uint32_t>(ambiguous.size()));
  for (const NumberRange& range : ambiguous) {
    out.number(range.begin);
    out.number(range.end);
  }
  out.number(static_cast<uint64_t>(buffers_.size()));
  for (size_t i = 0; i < buffers_.size(); ++i) {
    const RemoteBuffer& buffer = buffers_[i];
    out.number(buffer.address);
    out.number(buffer.offset);
    out.number(buffer.length);
    out.number(buffer.location);
    out.number(static_cast<uint8_t>(buffer.rights));
    out.number(static_cast<uint8_t>(buffer.kind));
    out.raw({reinterpret_cast<const char*>(keys_.data()) + rows_[i] * row_size_, row_size_});
  }
  return out.take();
}

Result<Descriptor> Descriptor::decode(std::string_view bytes) {
  const Status bad(Code::kProtocol, "the segment's description cannot be understood");
  ByteReader in(as_bytes(bytes));
  Descriptor result;
  result.instance = in.number<uint64_t>();
  result.generation = in.number<uint64_t>();
  const auto transport_count = in.number<uint32_t>();
  if (!in.ok() || transport_count > kMaxTransports) return bad;
  for (uint32_t i = 0; i < transport_count; ++i) {
    Transport transport;
    transport.name = in.text(kMaxNameSize);
    transport.key_size = in.number<uint32_t>();
    transport.info = in.text(kMaxInfoSize);
    if (!in.ok() || transport.key_size > kMaxKeySize) return bad;
    result.transports.push_back(std::move(transport));
  }
  const auto location_count = in.number<uint32_t>();
  if (!in.ok() || location_count > kMaxLocations) return bad;
  for (uint32_t i = 0; i < location_count && in.ok(); ++i) {
    result.locations.emplace_back(in.text(kMaxNameSize));
  }
  const auto ambiguous_count = in.number<uint32_t>();
  if (!in.ok() || ambiguous_count > Ambiguity::kMaxRanges) return bad;
  for (uint32_t i = 0; i < ambiguous_count; ++i) {
    const auto begin = in.number<uint64_t>();
    const auto end = in.number<uint64_t>();
    const bool ascending = i == 0 || result.ambiguous.back().end < begin;
    if (!in.ok() || begin >= end || !ascending) return bad;
    result.ambiguous.push_back({begin, end});
  }
  size_t row_size = 0;
  for (const Transport& transport : result.transports) row_size += 1 + transport.key_size;
  const auto count = in.number<uint64_t>();
  // The count is believed only as far as the bytes that came with it reach.
  if (!in.ok() || count > kMaxBuffers || in.remaining() != count * (kBufferBytes + row_size))
    return bad;
  result.buffers_.reserve(count);
  result.keys_.reserve(count * row_size);
  std::vector<std::string_view> keys(result.transports.size());
  for (uint64_t i = 0; i < count; ++i) {
    RemoteBuffer buffer;
    buffer.address = in.number<uint64_t>();
    buffer.offset = in.number<uint64_t>();
    buffer.length = in.number<uint64_t>();
    buffer.location = in.number<uint32_t>();
    const auto rights = in.number<uint8_t>();
    if (rights > static_cast<uint8_t>(Rights::kBoth)) return bad;
    buffer.rights = static_cast<Rights>(rights);
    buffer.kind = static_cast<MemoryKind>(in.number<uint8_t>());
    for (size_t t = 0; t < keys.size(); ++t) {
      const bool present = in.number<uint8_t>() != 0;
      const std::string_view key = in.view(result.transports[t].key_size);
      keys[t] = present ? key : std::string_view();
    }
    result.add(buffer, keys);
  }
  if (!in.complete()) return bad;
  TE_RETURN_IF_ERROR(result.finish());
  return result;
}

const std::byte* Descriptor::key(size_t buffer, size_t transport) const {
  const std::byte* slot = keys_.data() + rows_[buffer] * row_size_ + key_offsets_[transport];
  return *slot == std::byte{0} ? nullptr : slot + 1;
}

int Descriptor::transport_index(std::string_view name) const {
  for (size_t i = 0; i < transports.size(); ++i) {
    if (transports[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

size_t Descriptor::holding_offset(uint64_t offset) const {
  const auto after =
      std::upper_bound(buffers_.begin(), buffers_.end(), offset,
                       [](uint64_t value, const RemoteBuffer& b) { return value < b.offset; });
  if (after == buffers_.begin()) return kNone;
  const size_t index = static_cast<size_t>(after - buffers_.begin()) - 1;
  return offset - buffers_[index].offset < buffers_[index].length ? index : kNone;
}

size_t Descriptor::holding_address(uint64_t address) const {
  const auto after =
      std::upper_bound(by_address_.begin(), by_address_.end(), address,
                       [this](uint64_t value, uint32_t i) { return value < buffers_[i].address; });
  if (after == by_address_.begin()) return kNone;
  const uint32_t index = *(after - 1);
  return address - buffers_[index].address < buffers_[index].length ? index : kNone;
}

Status Descriptor::check_range(size_t index, const RemoteRange& range, uint64_t begin,
                               bool by_offset) const {
  const RemoteBuffer& buffer = buffers_[index];
  const uint64_t left = buffer.length - begin;
  if (range.length <= left) {
    if (contains(buffer.rights, range.rights)) return {};
    return error(Code::kPermission,
                 "the target's buffer of {} bytes at offset {} (address {:#x}) does not allow {}: "
                 "it is offered to this engine {}",
                 buffer.length, buffer.offset, buffer.address, rights_name(range.rights),
                 buffer.rights == Rights::kNone
                     ? "without remote access"
                     : fmt::format("for {} only", rights_name(buffer.rights)));
  }
  if (range.target_offset + range.length < range.target_offset) return wraps(range);
  const size_t next = by_offset ? holding_offset(range.target_offset + left) : kNone;
  return error(
      Code::kOutOfRange,
      "{} bytes at target offset {:#x} {} the buffer of {} bytes at offset {}, of which {} "
      "bytes are left there: {}",
      range.length, range.target_offset, next == kNone ? "leave" : "cross the end of",
      buffer.length, buffer.offset, left,
      next == kNone ? "shorten the request"
                    : "a request lies inside one buffer, so make two of it");
}

Result<size_t> Descriptor::resolve(const RemoteRange& range, uint64_t* address) const {
  const uint64_t number = range.target_offset;
  size_t by_offset = kNone, by_address = kNone;
  if (range.addressing != Addressing::kAddress) by_offset = holding_offset(number);
  if (range.addressing != Addressing::kOffset) by_address = holding_address(number);
  if (range.addressing == Addressing::kAuto &&
      ((by_offset != kNone && by_address != kNone) || contains(ambiguous, number))) {
    return error(
        Code::kInvalidArgument,
        "target offset {:#x} can be read as an offset in the segment and as the address of "
        "a buffer that is or was registered there: set the addressing mode, to offset or to "
        "address, for the engine (setAddressing, setting 'addressing') or for the "
        "submission",
        number);
  }
  if (by_offset != kNone) {
    const uint64_t begin = number - buffers_[by_offset].offset;
    TE_RETURN_IF_ERROR(check_range(by_offset, range, begin, true));
    *address = buffers_[by_offset].address + begin;
    return by_offset;
  }
  if (by_address != kNone) {
    const uint64_t begin = number - buffers_[by_address].address;
    TE_RETURN_IF_ERROR(check_range(by_address, range, begin, false));
    *address = number;
    return by_address;
  }
  return in_no_buffer(range);
}

Status Descriptor::in_no_buffer(const RemoteRange& range) const {
  const uint64_t number = range.target_offset;
  if (number + range.length < number) return wraps(range);
  std::string end;
  if (laid_out_ > 0) {
    const RemoteBuffer& last = buffers_[laid_out_ - 1];
    end = fmt::format(" and ends at offset {:#x}", last.offset + last.length);
  }
  std::string_view hint;
  if (range.addressing == Addressing::kOffset && holding_address(number) != kNone) {
    hint = "; it is the address of a buffer: for that, set the addressing mode to address";
  } else if (range.addressing == Addressing::kAddress && holding_offset(number) != kNone) {
    hint = "; it is an offset in the segment: for that, set the addressing mode to offset";
  }
  return error(Code::kOutOfRange,
               "target {} {:#x} lies in no buffer of the segment, which has {} buffers{}{}",
               range.addressing == Addressing::kAddress ? "address" : "offset", number, laid_out_,
               end, hint);
}

}  // namespace te
