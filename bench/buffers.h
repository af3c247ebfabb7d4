// The memory that a process of the suite moves bytes from and to, and the bytes it must hold.
//
// `main` is the source of the engine's and of the limit's bytes, and where the engine's arrive;
// `limit` is where the limit's arrive, so that each is verified by itself. Byte i of a source
// arrives as byte i. Threads: whoever moves bytes; the rest is the main thread's.
#pragma once

#include <cstdint>
#include <span>

#include "mapped_memory.h"

namespace te::bench {

struct Buffers {
  tool::MappedMemory main;
  tool::MappedMemory limit;

  static Result<Buffers> allocate(uint64_t bytes);
  std::span<std::byte> main_bytes() const { return {main.data(), main.size()}; }
  std::span<std::byte> limit_bytes() const { return {limit.data(), limit.size()}; }
};

// Part `index` of `count` equal ones.
std::span<std::byte> stripe(std::span<std::byte> bytes, size_t index, size_t count);

// How much of `size` bytes was written at least once by `moved` bytes in rotation.
inline uint64_t covered(uint64_t moved, uint64_t size) { return moved < size ? moved : size; }

// Compares `bytes` with the pattern of `seed` from `position` on; an error names the first wrong
// byte.
Status expect_pattern(uint64_t seed, uint64_t position, std::span<const std::byte> bytes);

}  // namespace te::bench
