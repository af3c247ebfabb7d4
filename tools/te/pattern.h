// The bytes that --verify writes and expects back: a function of a seed and of the place in the
// remote segment, so that any byte can be checked on its own, at any alignment. Pure functions, any
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace te::tool {

// Fills `out` with the bytes that belong to `position`, `position` + 1, ...
void fill_pattern(uint64_t seed, uint64_t position, std::span<std::byte> out);

struct Mismatch {
  uint64_t position = 0;  // of the first wrong byte
  std::byte expected{};
  std::byte found{};
  uint64_t wrong_bytes = 0;  // in the whole range
};

// Compares every byte; nothing when all are right.
std::optional<Mismatch> find_mismatch(uint64_t seed, uint64_t position,
                                      std::span<const std::byte> bytes);

}  // namespace te::tool
