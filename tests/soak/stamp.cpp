#include "soak/stamp.h"

#include <algorithm>
#include <cstring>

namespace te::soak {
namespace {

// A bijection of 64-bit words (splitmix64's finalizer) and its inverse.
uint64_t mix(uint64_t word) {
  word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
  word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
  return word ^ (word >> 31);
}

uint64_t unmix(uint64_t word) {
  word = (word ^ (word >> 31) ^ (word >> 62)) * 0x319642b2d24d8ec3;
  word = (word ^ (word >> 27) ^ (word >> 54)) * 0x96de1b173f119089;
  return word ^ (word >> 30) ^ (word >> 60);
}

uint64_t key(uint64_t range, uint64_t index) {
  return range * 0x9e3779b97f4a7c15 + index * 0xd1342543de82ef95 + 1;
}

}  // namespace

uint64_t stamp_word(uint64_t range, uint64_t sequence, uint64_t index) {
  return sequence == 0 ? 0 : mix(key(range, index) + sequence);
}

std::optional<uint64_t> stamped_sequence(uint64_t range, uint64_t word, uint64_t index) {
  if (word == 0) return 0;
  const uint64_t sequence = unmix(word) - key(range, index);
  if (sequence == 0 || sequence >= kSequenceMax) return std::nullopt;
  return sequence;
}

void stamp(std::byte* memory, size_t length, uint64_t range, uint64_t sequence) {
  for (size_t at = 0; at < length; at += sizeof(uint64_t)) {
    const uint64_t word = stamp_word(range, sequence, at / sizeof word);
    std::memcpy(memory + at, &word, std::min(sizeof word, length - at));
  }
}

size_t first_difference(const std::byte* memory, size_t length, uint64_t range, uint64_t sequence) {
  for (size_t at = 0; at < length; at += sizeof(uint64_t)) {
    const uint64_t word = stamp_word(range, sequence, at / sizeof word);
    if (std::memcmp(memory + at, &word, std::min(sizeof word, length - at)) == 0) continue;
    const auto* bytes = reinterpret_cast<const std::byte*>(&word);
    return at + static_cast<size_t>(std::mismatch(bytes, bytes + 8, memory + at).first - bytes);
  }
  return length;
}

}  // namespace te::soak
