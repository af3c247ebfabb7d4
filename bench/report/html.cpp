#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "link.h"
#include "report/report.h"
#include "report/svg.h"

namespace te::bench {
namespace {

constexpr const char* kHead = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Transfer Engine: benchmarks</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em;
  color: #1f2328; background: #fff; }
h1 { font-size: 1.6em; } h2 { font-size: 1.2em; margin-top: 2em; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 1em; }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; fill: #1f2328; }
svg .title { font-weight: 600; font-size: 14px; } svg .grid { stroke: #d8dee4; }
table { border-collapse: collapse; } td, th { padding: 2px 10px; text-align: left;
  border-bottom: 1px solid #d8dee4; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
td.met { color: #15803d; } td.missed { color: #c2410c; font-weight: 600; }
.wide { overflow-x: auto; }
</style></head><body>
<h1>Transfer Engine: benchmarks</h1>
)";

// The charts that rows name, in their order.
std::vector<std::string> charts(std::span<const Row> rows) {
  std::vector<std::string> result;
  for (const Row& row : rows) {
    if (row.place.chart.empty() || row.values.empty()) continue;
    if (std::find(result.begin(), result.end(), row.place.chart) == result.end()) {
      result.push_back(row.place.chart);
    }
  }
  return result;
}

// The rows of one chart and unit over their block sizes: what was measured, and its limit.
std::string block_size_plot(std::span<const Row> rows, const std::string& chart,
                            const std::string& unit, const std::string& what) {
  Plot plot{chart + ": " + what, {"block size", true, {}}, {unit, false, {}}, {}};
  Series engine{"engine", false, 0, {}}, limit{"limit", true, 1, {}};
  double top = 0;
  for (const Row& row : rows) {
    if (row.place.chart != chart || row.unit != unit || row.values.empty()) continue;
    const auto x = static_cast<double>(row.place.block_size);
    const Summary value = row.value();
    engine.points.push_back({x, value.median, value.min, value.max});
    top = std::max(top, value.max);
    plot.x.ticks.emplace_back(x, block_text(row.place.block_size));
    if (row.limits.empty()) continue;
    const Summary held = row.limit();
    limit.points.push_back({x, held.median, held.min, held.max});
    top = std::max(top, held.max);
  }
  if (engine.points.size() < 2) return {};
  plot.y.ticks = linear_ticks(top);
  plot.series = {engine, limit};
  return to_svg(plot);
}

Series cumulative(const std::string& name, bool dashed, size_t color,
                  const tool::Histogram& histogram) {
  Series series{name, dashed, color, {}};
  for (double percent = 0.5; percent < 99.95; percent += percent < 99 ? 0.5 : 0.1) {
    const double us = static_cast<double>(histogram.percentile(percent)) / 1e3;
    series.points.push_back({us, percent, percent, percent});
  }
  return series;
}

std::string latency_plot(const Row& row) {
  Plot plot{row.name.substr(0, row.name.rfind(',')), {"us", true, {}}, {"percent", false, {}}, {}};
  plot.series.push_back(cumulative("engine", false, 0, row.value_ns));
  if (row.limit_ns.count() > 0) {
    plot.series.push_back(cumulative("limit: " + row.limit_name, true, 1, row.limit_ns));
  }
  double low = INFINITY, high = 0;
  for (const Series& series : plot.series) {
    low = std::min(low, series.points.front().x);
    high = std::max(high, series.points.back().x);
  }
  for (double tick = std::exp2(std::floor(std::log2(low)));; tick *= 2) {
    plot.x.ticks.emplace_back(tick, fmt::format("{:g}", tick));
    if (tick >= high && plot.x.ticks.size() > 1) break;
  }
  for (int percent = 0; percent <= 100; percent += 25) {
    plot.y.ticks.emplace_back(percent, std::to_string(percent));
  }
  return to_svg(plot);
}

std::string cell(const std::string& text, const char* name = "n") {
  return fmt::format("<td class='{}'>{}</td>", name, escape_html(text));
}

std::string table_row(const Row& row) {
  const auto range = [](const Summary& summary) {
    return fmt::format("{} ({} to {})", number_text(summary.median), number_text(summary.min),
                       number_text(summary.max));
  };
  const std::optional<bool> met = row.met();
  std::string verdict = met ? (*met ? "met" : "not met") : "";
  if (!row.skipped.empty()) verdict = "skipped: " + row.skipped;
  if (!row.failed.empty()) verdict = "failed: " + row.failed;
  const bool bad = !row.failed.empty() || met == false;
  return "<tr>" + cell(row.name, "") + cell(row.values.empty() ? "" : range(row.value())) +
         cell(row.limits.empty() ? "" : range(row.limit())) + cell(row.unit, "") +
         cell(row.ratio() ? range(*row.ratio()) : "") + cell(row.bar_text(), "") +
         cell(verdict, bad ? "missed" : "met") + cell(row.limit_name, "") + "</tr>\n";
}

}  // namespace

std::string html_report(std::span<const Row> rows, const Machine& machine) {
  std::string out = kHead;
  out +=
      "<p>Each figure is the median of several rounds; in each round the engine and its limit "
      "were measured one after the other. Vertical marks are the lowest and the highest "
      "round.</p>\n<table>";
  for (const auto& [title, text] : facts(machine)) {
    out += "<tr>" + cell(title, "") + cell(text, "") + "</tr>\n";
  }
  out += "</table>\n<h2>Throughput</h2><div class='plots'>\n";
  for (const std::string& chart : charts(rows)) {
    out += block_size_plot(rows, chart, "GB/s", "throughput");
  }
  out += "</div>\n<h2>CPU seconds per GB, both sides together</h2><div class='plots'>\n";
  for (const std::string& chart : charts(rows)) {
    out += block_size_plot(rows, chart, "s/GB", "CPU time");
  }
  out +=
      "</div>\n<h2>Latency: the share of transfers that took at most so long</h2>"
      "<div class='plots'>\n";
  for (const Row& row : rows) {
    if (row.value_ns.count() > 0) out += latency_plot(row);
  }
  out +=
      "</div>\n<h2>All figures</h2><div class='wide'><table>\n<tr><th>case</th><th>value</th>"
      "<th>limit</th><th>unit</th><th>ratio</th><th>bar</th><th></th><th>the limit</th></tr>\n";
  for (const Row& row : rows) out += table_row(row);
  return out + "</table></div>\n</body></html>\n";
}

}  // namespace te::bench
