// What the driver says of addresses: which allocation, or chunk of one, is there. No context is
// needed, and nothing is kept.
//
// Threads: any.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "platform/cuda/library.h"
#include "transfer_engine/types.h"

namespace te::cuda {

// As what other processes can open it.
enum class Sharing {
  kNone,
  kAllocation,
  kChunk,        // by a descriptor
  kFabricChunk,  // by the bytes of a handle that other hosts may open, too
};

// Of the allocation, or of the chunk of one, that contains an address.
struct Chunk {
  DevicePtr begin = 0;
  DevicePtr end = 0;
  uint64_t id = 0;  // of its bytes; another one: they were freed, and the address was used again
  int gpu = 0;
  bool managed = false;
  Sharing sharing = Sharing::kNone;
};

// Nothing: it is not memory of a GPU.
std::optional<Chunk> chunk_at(const Library& library, DevicePtr address);
// All chunks of a range that begins in `first`. kInvalidArgument: it is not all of one kind.
Result<std::vector<Chunk>> chunks_of(const Library& library, const BufferEntry& range,
                                     const Chunk& first);
// As DeviceMemory::check(). The chunks ascend, without gaps.
Status check_chunks(const Library& library, std::span<const Chunk> chunks, DevicePtr begin,
                    size_t length);

}  // namespace te::cuda
