// What a WRITE of the soak carries: every 8-byte word names the range and the sequence number of
// the WRITE, so that any word found in memory tells where it comes from.
//
// Pure functions; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace te::soak {

// Sequence numbers below this are WRITEs; 0 is memory that was never written: zeros.
inline constexpr uint64_t kSequenceMax = uint64_t{1} << 32;
// Fills local memory that no request may use: neither sent nor written to.
inline constexpr uint64_t kPoison = kSequenceMax - 1;

// The word at `index` of the range's content after WRITE `sequence`; 0 for sequence 0.
uint64_t stamp_word(uint64_t range, uint64_t sequence, uint64_t index);
// The sequence number that such a word carries, if it was made for this range and index.
std::optional<uint64_t> stamped_sequence(uint64_t range, uint64_t word, uint64_t index);
// The whole content; a last partial word is cut.
void stamp(std::byte* memory, size_t length, uint64_t range, uint64_t sequence);
// Where the memory first differs from that content, or `length`.
size_t first_difference(const std::byte* memory, size_t length, uint64_t range, uint64_t sequence);

}  // namespace te::soak
