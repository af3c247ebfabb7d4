#include "report/svg.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "report/report.h"

namespace te::bench {
namespace {

constexpr double kWidth = 560, kHeight = 320;
constexpr double kLeft = 56, kRight = 24, kTop = 30, kBottom = 66;
constexpr std::array<const char*, 6> kColors = {"#1663c7", "#c2410c", "#15803d",
                                                "#7e22ce", "#b45309", "#0e7490"};

// Where a value lies between the first and the last tick, 0 to 1.
double place(const Axis& axis, double value) {
  const double first = axis.ticks.front().first, last = axis.ticks.back().first;
  const double part = axis.logarithmic ? std::log(value / first) / std::log(last / first)
                                       : (value - first) / (last - first);
  return std::clamp(part, 0.0, 1.0);
}

double x_of(const Plot& plot, double value) {
  return kLeft + place(plot.x, value) * (kWidth - kLeft - kRight);
}

double y_of(const Plot& plot, double value) {
  return kHeight - kBottom - place(plot.y, value) * (kHeight - kTop - kBottom);
}

std::string text_at(double x, double y, const char* anchor, const std::string& text,
                    const char* more = "") {
  return fmt::format("<text x='{:.1f}' y='{:.1f}' text-anchor='{}'{}>{}</text>", x, y, anchor, more,
                     escape_html(text));
}

std::string axes(const Plot& plot) {
  std::string out;
  const double bottom = kHeight - kBottom, right = kWidth - kRight;
  for (const auto& [value, label] : plot.y.ticks) {
    const double y = y_of(plot, value);
    out += fmt::format("<line class='grid' x1='{}' x2='{}' y1='{:.1f}' y2='{:.1f}'/>", kLeft, right,
                       y, y);
    out += text_at(kLeft - 6, y + 4, "end", label);
  }
  for (const auto& [value, label] : plot.x.ticks) {
    const double x = x_of(plot, value);
    out += fmt::format("<line class='grid' x1='{:.1f}' x2='{:.1f}' y1='{}' y2='{}'/>", x, x, kTop,
                       bottom);
    out += text_at(x, bottom + 16, "middle", label);
  }
  out += text_at((kLeft + right) / 2, bottom + 34, "middle", plot.x.title);
  const std::string turned = fmt::format(" transform='rotate(-90 14 {0})'", (kTop + bottom) / 2);
  out += text_at(14, (kTop + bottom) / 2, "middle", plot.y.title, turned.c_str());
  return out;
}

std::string line_of(const Plot& plot, const Series& series) {
  const char* const color = kColors[series.color % kColors.size()];
  std::string points, marks;
  for (const Series::Point& point : series.points) {
    const double x = x_of(plot, point.x), y = y_of(plot, point.y);
    points += fmt::format("{:.1f},{:.1f} ", x, y);
    if (point.low == point.high) continue;
    marks += fmt::format("<line stroke='{}' x1='{:.1f}' x2='{:.1f}' y1='{:.1f}' y2='{:.1f}'/>",
                         color, x, x, y_of(plot, point.low), y_of(plot, point.high));
    marks +=
        fmt::format("<circle fill='{}' cx='{:.1f}' cy='{:.1f}' r='3'><title>{}</title></circle>",
                    color, x, y, number_text(point.y));
  }
  return fmt::format("<polyline fill='none' stroke='{}' stroke-width='2'{} points='{}'/>{}", color,
                     series.dashed ? " stroke-dasharray='6 4'" : "", points, marks);
}

std::string legend(const Plot& plot) {
  std::string out;
  const double step = (kWidth - kLeft - kRight) / static_cast<double>(plot.series.size());
  for (size_t i = 0; i < plot.series.size(); ++i) {
    const double x = kLeft + static_cast<double>(i) * step, y = kHeight - 12;
    out += fmt::format(
        "<line stroke='{}' stroke-width='2'{} x1='{:.1f}' x2='{:.1f}' y1='{}' "
        "y2='{}'/>",
        kColors[plot.series[i].color % kColors.size()],
        plot.series[i].dashed ? " stroke-dasharray='6 4'" : "", x, x + 24, y - 4, y - 4);
    out += text_at(x + 30, y, "start", plot.series[i].name);
  }
  return out;
}

}  // namespace

std::vector<std::pair<double, std::string>> linear_ticks(double top) {
  if (!(top > 0)) top = 1;
  const double power = std::pow(10, std::floor(std::log10(top)));
  const double step = power * (top / power <= 2 ? 0.5 : top / power <= 5 ? 1 : 2);
  std::vector<std::pair<double, std::string>> result;
  for (int i = 0;; ++i) {
    result.emplace_back(i * step, fmt::format("{:g}", i * step));
    if (i * step >= top) return result;
  }
}

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string to_svg(const Plot& plot) {
  std::string out = fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {} {}' role='img' aria-label='{}'>",
      kWidth, kHeight, escape_html(plot.title));
  out += text_at(kWidth / 2, 18, "middle", plot.title, " class='title'");
  out += axes(plot);
  for (const Series& series : plot.series) out += line_of(plot, series);
  return out + legend(plot) + "</svg>\n";
}

}  // namespace te::bench
