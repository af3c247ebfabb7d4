#include "pattern.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace te::tool {
namespace {

// The eight bytes at `position` rounded down to 8. The finalizer spreads each bit of the input over
// the whole word, so that neighbouring words, and the same word under two seeds, differ in every
// byte with a chance of 255/256.
uint64_t word_at(uint64_t seed, uint64_t index) {
  uint64_t x = seed + (index + 1) * 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace

void fill_pattern(uint64_t seed, uint64_t position, std::span<std::byte> out) {
  size_t done = 0;
  while (done < out.size()) {
    const uint64_t at = position + done;
    const uint64_t word = word_at(seed, at / 8);
    const size_t skip = at % 8;
    if (skip == 0 && out.size() - done >= sizeof word) {  // a constant length is one store
      std::memcpy(out.data() + done, &word, sizeof word);
      done += sizeof word;
      continue;
    }
    const size_t count = std::min(sizeof word - skip, out.size() - done);
    std::memcpy(out.data() + done, reinterpret_cast<const std::byte*>(&word) + skip, count);
    done += count;
  }
}

std::optional<Mismatch> find_mismatch(uint64_t seed, uint64_t position,
                                      std::span<const std::byte> bytes) {
  std::optional<Mismatch> result;
  std::array<std::byte, 4096> expected;
  for (size_t done = 0; done < bytes.size();) {
    const size_t count = std::min(expected.size(), bytes.size() - done);
    fill_pattern(seed, position + done, {expected.data(), count});
    if (std::memcmp(expected.data(), bytes.data() + done, count) != 0) {
      for (size_t i = 0; i < count; ++i) {
        if (expected[i] == bytes[done + i]) continue;
        if (!result) result = Mismatch{position + done + i, expected[i], bytes[done + i], 0};
        ++result->wrong_bytes;
      }
    }
    done += count;
  }
  return result;
}

}  // namespace te::tool
