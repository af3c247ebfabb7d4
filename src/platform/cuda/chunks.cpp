#include "platform/cuda/chunks.h"

#include <algorithm>
#include <iterator>

#include "base/log.h"

namespace te::cuda {
namespace {

Sharing sharing_of(int is_legacy, unsigned long long handle_types, MemoryPool pool) {
  if (is_legacy != 0) return Sharing::kAllocation;
  if (pool != nullptr) return Sharing::kNone;
  if ((handle_types & kHandlePosixFd) != 0) return Sharing::kChunk;
  return (handle_types & kHandleFabric) != 0 ? Sharing::kFabricChunk : Sharing::kNone;
}

}  // namespace

std::optional<Chunk> chunk_at(const Library& library, DevicePtr address) {
  MemoryType type = MemoryType::kUnknown;
  unsigned managed = 0;
  int ordinal = 0, is_legacy = 0;
  unsigned long long id = 0, handle_types = 0;
  DevicePtr begin = 0;
  size_t length = 0;
  MemoryPool pool = nullptr;
  PointerAttribute attributes[] = {PointerAttribute::kMemoryType,
                                   PointerAttribute::kIsManaged,
                                   PointerAttribute::kDeviceOrdinal,
                                   PointerAttribute::kBufferId,
                                   PointerAttribute::kRangeStart,
                                   PointerAttribute::kRangeSize,
                                   PointerAttribute::kIsLegacyIpcCapable,
                                   PointerAttribute::kAllowedHandleTypes,
                                   PointerAttribute::kMempool};
  void* values[] = {&type,   &managed,   &ordinal,      &id,  &begin,
                    &length, &is_legacy, &handle_types, &pool};
  static_assert(std::size(attributes) == std::size(values));
  // The application may not have initialized it: then there is no such memory.
  const CuResult result =
      library.pointer_get_attributes(std::size(attributes), attributes, values, address);
  if (result != CuResult::kSuccess) return std::nullopt;
  if (type != MemoryType::kDevice && managed == 0) return std::nullopt;
  return Chunk{begin,   begin + length, id,
               ordinal, managed != 0,   sharing_of(is_legacy, handle_types, pool)};
}

Result<std::vector<Chunk>> chunks_of(const Library& library, const BufferEntry& range,
                                     const Chunk& first) {
  std::vector<Chunk> chunks{first};
  const auto begin = reinterpret_cast<DevicePtr>(range.addr);
  while (chunks.back().end < begin + range.length) {
    const DevicePtr next = chunks.back().end;
    const std::optional<Chunk> chunk = chunk_at(library, next);
    if (!chunk || chunk->end <= next) {
      return error(Code::kInvalidArgument,
                   "{} bytes at {} are not all memory of a GPU: what is at cuda:{} ends at {:#x}; "
                   "register no more than was allocated",
                   range.length, range.addr, first.gpu, next);
    }
    if (chunk->gpu != first.gpu || chunk->managed != first.managed) {
      return error(Code::kInvalidArgument,
                   "{} bytes at {} are memory of cuda:{} up to {:#x}, and of cuda:{} from there: "
                   "register each part by itself",
                   range.length, range.addr, first.gpu, next, chunk->gpu);
    }
    chunks.push_back(*chunk);
  }
  return chunks;
}

Status check_chunks(const Library& library, std::span<const Chunk> chunks, DevicePtr begin,
                    size_t length) {
  auto chunk = std::upper_bound(chunks.begin(), chunks.end(), begin,
                                [](DevicePtr at, const Chunk& each) { return at < each.end; });
  for (; chunk != chunks.end() && chunk->begin < begin + length; ++chunk) {
    const std::optional<Chunk> now = chunk_at(library, chunk->begin);
    if (now && now->id == chunk->id && now->gpu == chunk->gpu) continue;
    return error(Code::kInvalidArgument,
                 "the memory of cuda:{} at {:#x} was freed while it was registered{}: unregister "
                 "memory before it is freed",
                 chunk->gpu, chunk->begin, now ? ", and the address is in use again" : "");
  }
  return {};
}

}  // namespace te::cuda
