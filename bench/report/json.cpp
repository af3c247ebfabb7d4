#include <nlohmann/json.hpp>

#include "report/report.h"

namespace te::bench {
namespace {

using Json = nlohmann::ordered_json;

Json distribution(const tool::Histogram& histogram) {
  Json result = {{"count", histogram.count()}, {"min", histogram.min()}};
  for (const auto& [name, percent] :
       {std::pair{"p50", 50.0}, {"p90", 90.0}, {"p99", 99.0}, {"p99.9", 99.9}}) {
    result[name] = histogram.percentile(percent);
  }
  result["max"] = histogram.max();
  Json& points = result["percentiles"] = Json::array();
  for (double percent = 1; percent < 100; percent += percent < 99 ? 1 : 0.1) {
    points.push_back({percent, histogram.percentile(percent)});
  }
  return result;
}

// Every key in every row: null where there is nothing to say.
Json row_json(const Row& row) {
  const bool measured = !row.values.empty();
  const Summary value = row.value();
  const Summary limit = row.limit();
  const std::optional<Summary> ratio = row.ratio();
  const std::optional<bool> met = row.met();
  const auto when = [](bool there, auto&& what) { return there ? Json(what) : Json(); };
  Json result = {
      {"case", row.name},
      {"value", when(measured, value.median)},
      {"min", when(measured, value.min)},
      {"max", when(measured, value.max)},
      {"unit", row.unit},
      {"limit", when(!row.limits.empty(), limit.median)},
      {"limit_min", when(!row.limits.empty(), limit.min)},
      {"limit_max", when(!row.limits.empty(), limit.max)},
      {"limit_name", when(!row.limit_name.empty(), row.limit_name)},
      {"ratio", when(ratio.has_value(), ratio.value_or(Summary{}).median)},
      {"ratio_min", when(ratio.has_value(), ratio.value_or(Summary{}).min)},
      {"ratio_max", when(ratio.has_value(), ratio.value_or(Summary{}).max)},
      {"bar", when(row.bar.kind != Bar::Kind::kNone, row.bar_text())},
      {"met", when(met.has_value(), met.value_or(false))},
      {"chart", when(!row.place.chart.empty(), row.place.chart)},
      {"block_size", when(!row.place.chart.empty(), row.place.block_size)},
      {"rounds", row.values.size()},
      {"verified_bytes", row.verified_bytes},
      {"skipped", when(!row.skipped.empty(), row.skipped)},
      {"failed", when(!row.failed.empty(), row.failed)},
  };
  if (row.value_ns.count() > 0) result["value_ns"] = distribution(row.value_ns);
  if (row.limit_ns.count() > 0) result["limit_ns"] = distribution(row.limit_ns);
  return result;
}

}  // namespace

std::string json_report(std::span<const Row> rows, const Machine& machine) {
  Json results = Json::array();
  for (const Row& row : rows) results.push_back(row_json(row));
  const Json report = {{"results", results},
                       {"machine",
                        {{"cpu", machine.cpu},
                         {"cores", machine.cores},
                         {"memory", machine.memory},
                         {"kernel", machine.kernel},
                         {"date", machine.date},
                         {"version", machine.version}}}};
  return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace te::bench
