#include "soak/range_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "soak/stamp.h"

namespace te::soak {
namespace {

constexpr size_t kWord = sizeof(uint64_t);
constexpr uint64_t kZerosPossible = 1;  // an epoch that no quiet buffer has
constexpr uint64_t kOutcomes = 64;      // as many ends as RangeState::abandoned has bits

}  // namespace

uint64_t RangeModel::begin_write(bool zeros) {
  if (zeros) state_.epoch = kZerosPossible;
  // Until it ends it counts as abandoned, which is right if this process dies meanwhile.
  state_.abandoned = (state_.abandoned << 1) | 1;
  return ++state_.last;
}

void RangeModel::end_write(uint64_t sequence, bool completed, uint64_t epoch) {
  if (!completed) return;
  const uint64_t back = state_.last - sequence;
  if (back < kOutcomes) state_.abandoned &= ~(uint64_t{1} << back);
  state_.base = sequence;
  state_.epoch = epoch;
  state_.unknown = 0;
}

void RangeModel::replace_writer() {
  if (state_.last == state_.base) return;
  if (state_.stray_low == 0) state_.stray_low = state_.base + 1;
  state_.stray = state_.last;
}

void RangeModel::settle() { state_.stray = state_.stray_low = 0; }

bool RangeModel::allowed(uint64_t sequence, bool zeros) const {
  if (sequence == 0) return zeros || state_.base == 0;
  if (sequence >= state_.base && sequence <= state_.last) return true;
  return state_.stray_low != 0 && sequence >= state_.stray_low && sequence <= state_.stray;
}

// Transfers may stop in the middle of a word: every byte must come from a WRITE that is allowed.
bool RangeModel::mixture(const std::byte* bytes, size_t count, uint64_t index, bool zeros) const {
  std::vector<uint64_t> candidates;
  if (zeros || state_.base == 0) candidates.push_back(0);
  const auto add = [&](uint64_t low, uint64_t high) {
    low = std::max(low, high > kOutcomes ? high - kOutcomes : 1);
    for (uint64_t i = std::max<uint64_t>(low, 1); i <= high; ++i) candidates.push_back(i);
  };
  add(state_.base, state_.last);
  candidates.push_back(state_.base);
  if (state_.stray_low != 0) add(state_.stray_low, state_.stray);
  std::vector<bool> explained(count, false);
  for (const uint64_t candidate : candidates) {
    const uint64_t word = stamp_word(range_, candidate, index);
    const auto* expected = reinterpret_cast<const std::byte*>(&word);
    for (size_t i = 0; i < count; ++i) {
      if (bytes[i] == expected[i]) explained[i] = true;
    }
  }
  return std::find(explained.begin(), explained.end(), false) == explained.end();
}

Breach RangeModel::check(const std::byte* memory, size_t length, uint64_t epoch) const {
  if (state_.unknown != 0) return {};
  const bool zeros = epoch % 2 == 1 || epoch != state_.epoch;
  // Nearly always the last WRITE completed, and is all there is.
  size_t at = first_difference(memory, length, range_, state_.last);
  if (at == length) state_.seen = state_.last;
  for (at -= at % kWord; at < length; at += kWord) {
    const size_t count = std::min(kWord, length - at);
    uint64_t word = 0;
    std::memcpy(&word, memory + at, count);
    if (count == kWord) {
      const auto sequence = stamped_sequence(range_, word, at / kWord);
      if (sequence.has_value() && allowed(*sequence, zeros)) continue;
    }
    if (!mixture(memory + at, count, at / kWord, zeros)) return explain(memory, length, at);
  }
  return {};
}

// The WRITE whose bytes lie at `at`. A partial word names none: the newest before `base` that has
// these.
std::optional<uint64_t> RangeModel::origin(const std::byte* memory, size_t length,
                                           size_t at) const {
  uint64_t word = 0;
  const size_t count = std::min(kWord, length - at);
  std::memcpy(&word, memory + at, count);
  if (count == kWord) return stamped_sequence(range_, word, at / kWord);
  for (uint64_t back = 1; back < 4 * kOutcomes && back <= state_.base; ++back) {
    const uint64_t candidate = stamp_word(range_, state_.base - back, at / kWord);
    if (std::memcmp(&candidate, memory + at, count) == 0) return state_.base - back;
  }
  return word == 0 ? std::optional<uint64_t>(0) : std::nullopt;
}

Breach RangeModel::explain(const std::byte* memory, size_t length, size_t at) const {
  const std::string expected =
      fmt::format("at byte {} of {}, where WRITE {} completed and {} was begun last", at, length,
                  state_.base, state_.last);
  auto from = origin(memory, length, at);
  // A word of which two WRITEs have a part; the next one is whole.
  if (!from.has_value() && at + kWord < length) {
    from = origin(memory, length, at + kWord);
    if (from.has_value() && allowed(*from, false)) from.reset();
  }
  const uint64_t found = from.value_or(kSequenceMax);
  if (found == kSequenceMax) {
    uint64_t word = 0;
    std::memcpy(&word, memory + at, std::min(kWord, length - at));
    return {"corrupt", at,
            fmt::format("{}, lies {:#018x}, which no WRITE to it carried", expected, word)};
  }
  if (found == kPoison) {
    return {"poison", at, expected + ", lies what a source held after its task was terminal"};
  }
  size_t bytes = 0;
  for (size_t i = at; i < length; i += kWord) {
    if (origin(memory, length, i) == found) bytes += std::min(kWord, length - i);
  }
  const uint64_t back = state_.last - found;
  if (found != 0 && back < kOutcomes && ((state_.abandoned >> back) & 1) != 0) {
    return {"ghost", at,
            fmt::format("{}, lie {} bytes of WRITE {}, which ended without COMPLETED before",
                        expected, bytes, found)};
  }
  if (found != 0 && state_.seen == state_.base) {
    return {"ghost", at,
            fmt::format("{}, lie {} bytes of WRITE {}, which had COMPLETED before and landed again",
                        expected, bytes, found)};
  }
  return {"lost", at,
          fmt::format("{}, lie {} bytes of WRITE {}{}", expected, bytes, found,
                      found == 0 ? " (zeros)" : "")};
}

}  // namespace te::soak
