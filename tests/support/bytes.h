// Bytes that differ from place to place and from seed to seed, made and compared a word at a time,
// so that tests may look at gigabytes. No state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace te::test {

inline constexpr size_t kSame = SIZE_MAX;

namespace bytes_internal {

inline uint64_t word(uint64_t seed, uint64_t index) {
  uint64_t x = (seed + 1) * 0x9E3779B97F4A7C15ull + index * 0xD1B54A32D192ED03ull;
  x ^= x >> 32;
  x *= 0xBF58476D1CE4E5B9ull;
  return x ^ (x >> 29);
}

}  // namespace bytes_internal

// The pattern of `seed` from its byte 0 on.
inline void stamp(std::byte* at, size_t length, uint64_t seed) {
  size_t i = 0;
  for (; i + 8 <= length; i += 8) {
    const uint64_t word = bytes_internal::word(seed, i / 8);
    std::memcpy(at + i, &word, 8);
  }
  const uint64_t last = bytes_internal::word(seed, i / 8);
  std::memcpy(at + i, &last, length - i);
}

// Where the bytes first differ from what stamp() writes, or kSame.
inline size_t difference(const std::byte* at, size_t length, uint64_t seed) {
  for (size_t i = 0; i < length; i += 8) {
    const uint64_t word = bytes_internal::word(seed, i / 8);
    const size_t step = length - i < 8 ? length - i : 8;
    if (std::memcmp(at + i, &word, step) == 0) continue;
    for (size_t k = 0; k < step; ++k) {
      if (std::memcmp(at + i + k, reinterpret_cast<const std::byte*>(&word) + k, 1) != 0) {
        return i + k;
      }
    }
  }
  return kSame;
}

// Where the first byte other than `value` is, or kSame.
inline size_t other_than(const std::byte* at, size_t length, std::byte value) {
  if (length == 0) return kSame;
  if (at[0] == value && std::memcmp(at, at + 1, length - 1) == 0) return kSame;
  size_t i = 0;
  while (i < length && at[i] == value) ++i;
  return i == length ? kSame : i;
}

}  // namespace te::test
