// One line of the report: what is measured, against what, and what the rounds gave.
//
// Threads: the main thread alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "histogram.h"
#include "statistics.h"

namespace te::bench {

// What a row is held against. A ratio is value / limit, both of the same round.
struct Bar {
  enum class Kind { kNone, kRatioAtLeast, kRatioAtMost, kValueAtMost };
  Kind kind = Kind::kNone;
  double number = 0;

  static Bar none() { return {}; }
  static Bar ratio_at_least(double number) { return {Kind::kRatioAtLeast, number}; }
  static Bar ratio_at_most(double number) { return {Kind::kRatioAtMost, number}; }
  static Bar value_at_most(double number) { return {Kind::kValueAtMost, number}; }
};

// Where the row belongs in the plots over block sizes; empty chart: in none.
struct PlotPlace {
  std::string chart;  // such as "TCP write"
  uint64_t block_size = 0;
};

struct Row {
  Row(std::string row_name, std::string row_unit, std::string limit = {}, Bar row_bar = {},
      PlotPlace plot = {})
      : name(std::move(row_name)),
        unit(std::move(row_unit)),
        limit_name(std::move(limit)),
        bar(row_bar),
        place(std::move(plot)) {}

  std::string name;
  std::string unit;
  std::string limit_name;  // empty: the value stands alone
  Bar bar;
  PlotPlace place;

  std::vector<double> values;  // one per round
  std::vector<double> limits;  // the same, or empty
  tool::Histogram value_ns;    // of a latency, all rounds together
  tool::Histogram limit_ns;
  uint64_t verified_bytes = 0;
  std::string skipped;  // why it was not measured, or empty
  std::string failed;   // why it could not be measured, or empty

  void add(double value) { values.push_back(value); }
  void add(double value, double limit) {
    values.push_back(value);
    limits.push_back(limit);
  }

  Summary value() const { return summarize(values); }
  Summary limit() const { return summarize(limits); }
  // Of the rounds' ratios; nothing without a limit.
  std::optional<Summary> ratio() const;
  // Nothing without a bar or a measurement.
  std::optional<bool> met() const;
  // Such as ">= 0.95 of the limit" or "<= 100 ns"; empty without a bar.
  std::string bar_text() const;
};

}  // namespace te::bench
