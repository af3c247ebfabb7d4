#include "size_text.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

namespace te::tool {
namespace {

constexpr std::string_view kSizeHelp =
    "give bytes, such as 4096, 4K, 64KiB or 16M (powers of 1024)";
constexpr std::string_view kDurationHelp =
    "give a time above 0, in seconds unless it has a unit, such as 10, 0.5, 200ms, 10s, 2m or 1h";
constexpr double kLongestMs = 1e12;  // 31 years; far from where a double loses whole milliseconds

Status not_understood(std::string_view text, std::string_view help) {
  return Status(Code::kInvalidArgument, fmt::format("'{}' is not understood: {}", text, help));
}

std::string lower_case(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  uint64_t number = 0;
  const char* const last = text.data() + text.size();
  const auto [end, ec] = std::from_chars(text.data(), last, number);
  if (ec != std::errc()) return not_understood(text, kSizeHelp);
  const std::string unit = lower_case({end, static_cast<size_t>(last - end)});
  static constexpr std::array<std::string_view, 5> kUnits = {"b", "k", "m", "g", "t"};
  for (size_t power = 0; power < kUnits.size(); ++power) {
    const bool bare = unit == kUnits[power] || (power == 0 && unit.empty());
    if (!bare && (power == 0 || unit != std::string(kUnits[power]) + "ib")) continue;
    const unsigned shift = static_cast<unsigned>(10 * power);
    if (number > (UINT64_MAX >> shift)) return not_understood(text, "it is larger than 2^64 bytes");
    return number << shift;
  }
  return not_understood(text, kSizeHelp);
}

Result<uint64_t> parse_duration_ms(std::string_view text) {
  double number = 0;
  const char* const last = text.data() + text.size();
  const auto [end, ec] = std::from_chars(text.data(), last, number, std::chars_format::fixed);
  if (ec != std::errc()) return not_understood(text, kDurationHelp);
  const std::string_view unit(end, static_cast<size_t>(last - end));
  double scale = 0;
  if (unit == "ms") scale = 1;
  if (unit == "s" || unit.empty()) scale = 1e3;
  if (unit == "m") scale = 60e3;
  if (unit == "h") scale = 3600e3;
  const double ms = number * scale;
  if (number == 0 && scale != 0) {
    return Status(Code::kInvalidArgument,
                  fmt::format("'{}' is too short: {}", text, kDurationHelp));
  }
  if (!std::isfinite(ms) || ms <= 0 || ms > kLongestMs) return not_understood(text, kDurationHelp);
  return std::max<uint64_t>(1, static_cast<uint64_t>(std::llround(ms)));
}

Result<uint64_t> parse_whole_number(std::string_view text) {
  uint64_t number = 0;
  const char* const last = text.data() + text.size();
  const auto [end, ec] = std::from_chars(text.data(), last, number);
  if (ec != std::errc() || end != last) return not_understood(text, "give a whole number");
  return number;
}

std::string size_text(uint64_t bytes) {
  static constexpr std::array<std::string_view, 5> kUnits = {"", "K", "M", "G", "T"};
  size_t power = 0;
  while (bytes != 0 && bytes % 1024 == 0 && power + 1 < kUnits.size()) {
    bytes /= 1024;
    ++power;
  }
  return fmt::format("{}{}", bytes, kUnits[power]);
}

std::string bytes_text(uint64_t bytes) {
  static constexpr std::array<std::string_view, 6> kUnits = {"B", "kB", "MB", "GB", "TB", "PB"};
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double number = static_cast<double>(bytes);
  size_t power = 0;
  while (number >= 999.5 && power + 1 < kUnits.size()) {
    number /= 1000;
    ++power;
  }
  return fmt::format("{:.3g} {}", number, kUnits[power]);
}

}  // namespace te::tool
