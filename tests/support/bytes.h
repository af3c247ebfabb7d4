// Bytes that differ from place to place and from seed to seed, made and compared a word at a time,
// so that tests may look at gigabytes. No state.
//
// The thread sanitizer does not watch these: that a transfer is over is told by what passes between
// two processes, or through sockets, which it sees only in part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SANITIZE_THREAD__)
// Nor may a loop become a call of memset(), which it watches.
#define TEST_UNWATCHED \
  __attribute__((no_sanitize_thread, noinline, optimize("no-tree-loop-distribute-patterns")))
#else
#define TEST_UNWATCHED
#endif

namespace te::test {

inline constexpr size_t kSame = SIZE_MAX;

namespace bytes_internal {

inline constexpr size_t kWord = sizeof(uint64_t);

TEST_UNWATCHED inline uint64_t word(uint64_t seed, uint64_t index) {
  uint64_t x = (seed + 1) * 0x9E3779B97F4A7C15ull + index * 0xD1B54A32D192ED03ull;
  x ^= x >> 32;
  x *= 0xBF58476D1CE4E5B9ull;
  return x ^ (x >> 29);
}

TEST_UNWATCHED inline std::byte byte_of(uint64_t word, size_t index) {
  return static_cast<std::byte>(word >> (8 * index));
}

}  // namespace bytes_internal

// The pattern of `seed` from its byte 0 on.
TEST_UNWATCHED inline void stamp(std::byte* at, size_t length, uint64_t seed) {
  using bytes_internal::kWord;
  size_t i = 0;
  for (; i + kWord <= length; i += kWord) {
    const uint64_t word = bytes_internal::word(seed, i / kWord);
    __builtin_memcpy(at + i, &word, kWord);
  }
  const uint64_t last = bytes_internal::word(seed, i / kWord);
  for (; i < length; ++i) at[i] = bytes_internal::byte_of(last, i % kWord);
}

// Where the bytes first differ from what stamp() writes, or kSame. `skip`: of the pattern, before
// the first of them; a multiple of 8.
TEST_UNWATCHED inline size_t difference(const std::byte* at, size_t length, uint64_t seed,
                                        size_t skip = 0) {
  using bytes_internal::kWord;
  size_t i = 0;
  for (; i + kWord <= length; i += kWord) {
    uint64_t found;
    __builtin_memcpy(&found, at + i, kWord);
    if (found != bytes_internal::word(seed, (skip + i) / kWord)) break;
  }
  for (; i < length; ++i) {
    if (at[i] !=
        bytes_internal::byte_of(bytes_internal::word(seed, (skip + i) / kWord), i % kWord)) {
      return i;
    }
  }
  return kSame;
}

TEST_UNWATCHED inline void fill_with(std::byte* at, size_t length, std::byte value) {
  for (size_t i = 0; i < length; ++i) at[i] = value;
}

// Where the first byte other than `value` is, or kSame.
TEST_UNWATCHED inline size_t other_than(const std::byte* at, size_t length, std::byte value) {
  using bytes_internal::kWord;
  const uint64_t all = static_cast<uint64_t>(value) * 0x0101010101010101ull;
  size_t i = 0;
  for (; i + kWord <= length; i += kWord) {
    uint64_t found;
    __builtin_memcpy(&found, at + i, kWord);
    if (found != all) break;
  }
  while (i < length && at[i] == value) ++i;
  return i == length ? kSame : i;
}

}  // namespace te::test
