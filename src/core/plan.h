// Which way each request goes, and in how many slices. Pure: no I/O, no clock, no state.
#pragma once

#include <cstdint>

#include "core/batch.h"

namespace te {

// Into how many slices a request is cut: all of `slice_bytes` but the last. At least 1.
inline uint64_t slice_count(uint64_t length, uint64_t slice_bytes) {
  return length <= slice_bytes ? 1 : (length + slice_bytes - 1) / slice_bytes;
}

// The local memory of a request: what it is, and where it begins.
struct LocalEnd {
  LocalEnd(MemoryKind its_kind, const void* begin = nullptr)  // NOLINT(google-explicit-constructor)
      : kind(its_kind), at(begin) {}

  // Whether the path reaches it, and a buffer of the other kind at the target: see Path::moves().
  bool reached_by(const Path& path, MemoryKind remote, const std::byte* key) const {
    return path.moves(kind, at, remote, key);
  }

  MemoryKind kind;
  const void* at;
};

// The best path of `target` that reaches the buffer and the local memory, or null;
// `*key` is what to show there. `avoid` is taken only when there is no other, one that rests only
// after that, and one that does not reach the buffer as a last resort: why it does not is then the
// error's reason.
Path* choose_path(const Target& target, size_t buffer, LocalEnd local, const Path* avoid,
                  const std::byte** key);

// At which ends bytes are copied to or from host memory on their way, where no path reaches both
// kinds of memory.
struct StagedEnds {
  bool local = false;
  bool remote = false;

  bool any() const { return local || remote; }
};
// With which ends staged a path reaches both, the fewest; none: no path does. `*key` is what the
// target is shown to copy from or to the buffer, where its end is staged.
StagedEnds find_staged_ends(const Target& target, size_t buffer, LocalEnd local,
                            const std::byte** key);
// Why neither found anything, for people.
Status no_path(const Target& target, size_t buffer, MemoryKind local);

}  // namespace te
