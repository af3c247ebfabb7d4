#include "table.h"

#include <fmt/core.h>

#include <cmath>
#include <map>

#include "report/report.h"

namespace te::bench {
namespace {

using tool::Align;
using tool::Table;

std::string range_text(const Summary& summary) {
  return fmt::format("{}..{}", number_text(summary.min), number_text(summary.max));
}

std::string bar_cell(const Row& row) {
  switch (row.bar.kind) {
    case Bar::Kind::kNone:
      return "";
    case Bar::Kind::kRatioAtLeast:
      return fmt::format(">= {}", row.bar.number);
    case Bar::Kind::kRatioAtMost:
      return fmt::format("<= {}", row.bar.number);
    case Bar::Kind::kValueAtMost:
      return fmt::format("<= {} {}", number_text(row.bar.number), row.unit);
  }
  return "";
}

std::string met_cell(const Row& row) {
  if (!row.failed.empty()) return "FAILED";
  if (!row.skipped.empty()) return "skipped";
  const std::optional<bool> met = row.met();
  return met ? (*met ? "met" : "NOT MET") : "";
}

std::string names_of(std::span<const Row> rows, bool met) {
  std::string result;
  for (const Row& row : rows) {
    if (row.met() == met) result += fmt::format("  {} ({})\n", row.name, row.bar_text());
  }
  return result;
}

}  // namespace

std::string number_text(double number) {
  const double size = std::fabs(number);
  if (size >= 1000) return fmt::format("{:.0f}", number);
  if (size >= 100) return fmt::format("{:.1f}", number);
  if (size >= 1 || size == 0) return fmt::format("{:.2f}", number);
  return fmt::format("{:.3f}", number);
}

std::string table_report(std::span<const Row> rows) {
  Table table({{"case"},
               {"value", Align::kRight},
               {"min..max", Align::kRight},
               {"limit", Align::kRight},
               {"ratio", Align::kRight},
               {"min..max", Align::kRight},
               {"unit"},
               {"bar"},
               {""},
               {"the limit"}});
  std::string notes;
  std::map<std::string, size_t> skipped;  // how many rows, by the reason
  size_t met = 0, missed = 0;
  for (const Row& row : rows) {
    if (row.met()) ++(*row.met() ? met : missed);
    if (!row.failed.empty()) notes += fmt::format("FAILED {}: {}\n", row.name, row.failed);
    if (!row.skipped.empty()) ++skipped[row.skipped];
    if (row.values.empty()) {
      table.add_row({row.name, "-", "", "", "", "", row.unit, bar_cell(row), met_cell(row)});
      continue;
    }
    const Summary value = row.value();
    const std::optional<Summary> ratio = row.ratio();
    table.add_row({row.name, number_text(value.median), range_text(value),
                   row.limits.empty() ? "" : number_text(row.limit().median),
                   ratio ? number_text(ratio->median) : "", ratio ? range_text(*ratio) : "",
                   row.unit, bar_cell(row), met_cell(row), row.limit_name});
  }
  for (const auto& [reason, count] : skipped) {
    notes += fmt::format("skipped, {} {}: {}\n", count, count == 1 ? "row" : "rows", reason);
  }
  std::string result = table.to_string();
  if (!notes.empty()) result += "\n" + notes;
  result += fmt::format("\nBars met: {} of {}\n", met, met + missed);
  if (missed > 0) result += "Not met:\n" + names_of(rows, false);
  if (met > 0) result += "Met:\n" + names_of(rows, true);
  return result;
}

}  // namespace te::bench
