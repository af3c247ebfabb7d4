#include "core/transfer_list.h"

#include <algorithm>

#include "base/log.h"

namespace te {
namespace {

Status check_opcode(Opcode opcode) {
  if (opcode == Opcode::kRead || opcode == Opcode::kWrite) return {};
  return error(Code::kInvalidArgument, "opcode {} is neither READ (0) nor WRITE (1)",
               static_cast<int>(opcode));
}

// Whether blocks up to number `last`, of `size` bytes each, end within 64 bits from `begin`.
bool fits(uint64_t begin, uint64_t last, uint64_t size) {
  uint64_t count = 0, bytes = 0, end = 0;
  return !__builtin_add_overflow(last, 1, &count) && !__builtin_mul_overflow(count, size, &bytes) &&
         !__builtin_add_overflow(begin, bytes, &end);
}

}  // namespace

Status check_list(const BlockList& list) {
  TE_RETURN_IF_ERROR(check_opcode(list.opcode));
  if (list.source_blocks.size() != list.target_blocks.size()) {
    return error(Code::kInvalidArgument,
                 "{} source blocks and {} target blocks: give one of each for every block",
                 list.source_blocks.size(), list.target_blocks.size());
  }
  if (list.source_blocks.empty()) return {};
  const uint64_t last_source =
      *std::max_element(list.source_blocks.begin(), list.source_blocks.end());
  const uint64_t last_target =
      *std::max_element(list.target_blocks.begin(), list.target_blocks.end());
  for (size_t i = 0; i < list.regions.size(); ++i) {
    const BlockRegion& region = list.regions[i];
    if (region.block_size == 0) {
      return error(Code::kInvalidArgument, "the blocks of region {} have no bytes", i);
    }
    const auto source = reinterpret_cast<uint64_t>(region.source);
    if (!fits(source, last_source, region.block_size) ||
        !fits(region.target_offset, last_target, region.block_size)) {
      return error(Code::kInvalidArgument,
                   "region {}: block {} here or block {} at the target, of {} bytes each, lies "
                   "beyond the address space",
                   i, last_source, last_target, region.block_size);
    }
  }
  return {};
}

Status check_list(const AddressList& list) {
  TE_RETURN_IF_ERROR(check_opcode(list.opcode));
  const size_t count = list.lengths.size();
  if (list.sources.size() != count || list.target_offsets.size() != count) {
    return error(Code::kInvalidArgument,
                 "{} sources, {} target offsets and {} lengths: give one of each for every range",
                 list.sources.size(), list.target_offsets.size(), count);
  }
  for (size_t i = 0; i < count; ++i) {
    uint64_t end = 0;
    if (__builtin_add_overflow(list.sources[i], list.lengths[i], &end) ||
        __builtin_add_overflow(list.target_offsets[i], list.lengths[i], &end)) {
      return error(Code::kInvalidArgument,
                   "range {}: {} bytes at {:#x} here and {:#x} at the target wrap around the "
                   "address space",
                   i, list.lengths[i], list.sources[i], list.target_offsets[i]);
    }
  }
  return {};
}

}  // namespace te
