// Sizes, durations and numbers as people type and read them. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "transfer_engine/status.h"

namespace te::tool {

// "4096", "4K", "4KiB", "16M", "1g": bytes; the units are powers of 1024, in either case. "KB" and
// the like are refused: they mean 1000 to some and 1024 to others.
Result<uint64_t> parse_size(std::string_view text);
// "10", "0.5", "10s", "200ms", "2m", "1h": milliseconds, at least 1. A number alone is seconds.
Result<uint64_t> parse_duration_ms(std::string_view text);
// Decimal digits only.
Result<uint64_t> parse_whole_number(std::string_view text);

// The shortest form that parse_size() reads back to the same number: "64K", "1M", "1500".
std::string size_text(uint64_t bytes);
// Rounded, in powers of 1000: "12.3 GB".
std::string bytes_text(uint64_t bytes);

}  // namespace te::tool
