// Ways to copy, of which none is the fastest on every processor.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/batch.h"
#include "transfer_engine/status.h"

namespace te {

enum class CopyWay : uint8_t {
  kMemcpy,          // libc's, which chooses by processor and size
  kStreaming,       // past the caches, by non-temporal stores
  kStreamingAhead,  // the same, and the source is fetched ahead
};
inline constexpr size_t kCopyWays = 3;

// Copies like memcpy.
void copy_bytes(std::byte* to, const std::byte* from, size_t length, CopyWay way);

// Copies the bytes of a slice to or from `remote`, where the target's memory is in this process;
// the two may overlap. kInvalidArgument: the local memory cannot be touched; kPermission: the
// target's.
Code copy_slice(const Slice& slice, std::byte* remote, CopyWay way);

}  // namespace te
