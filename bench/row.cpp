#include "row.h"

#include <fmt/core.h>

namespace te::bench {

std::optional<Summary> Row::ratio() const {
  if (limits.empty() || limits.size() != values.size()) return std::nullopt;
  std::vector<double> ratios;
  for (size_t i = 0; i < values.size(); ++i) {
    if (limits[i] <= 0) return std::nullopt;
    ratios.push_back(values[i] / limits[i]);
  }
  return summarize(std::move(ratios));
}

std::optional<bool> Row::met() const {
  if (values.empty() || !failed.empty() || bar.kind == Bar::Kind::kNone) return std::nullopt;
  if (bar.kind == Bar::Kind::kValueAtMost) return value().median <= bar.number;
  const std::optional<Summary> of_limit = ratio();
  if (!of_limit) return std::nullopt;
  return bar.kind == Bar::Kind::kRatioAtLeast ? of_limit->median >= bar.number
                                              : of_limit->median <= bar.number;
}

std::string Row::bar_text() const {
  switch (bar.kind) {
    case Bar::Kind::kNone:
      return {};
    case Bar::Kind::kRatioAtLeast:
      return fmt::format(">= {} of the limit", bar.number);
    case Bar::Kind::kRatioAtMost:
      return fmt::format("<= {} of the limit", bar.number);
    case Bar::Kind::kValueAtMost:
      return fmt::format("<= {} {}", bar.number, unit);
  }
  return {};
}

}  // namespace te::bench
