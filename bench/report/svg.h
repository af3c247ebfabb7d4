// Line plots as inline SVG. Plain values; one thread at a time.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace te::bench {

struct Series {
  std::string name;
  bool dashed = false;
  size_t color = 0;  // an index; series of one index share a colour
  struct Point {
    double x;
    double y;
    double low;  // of the range that is drawn at the point; both y: none
    double high;
  };
  std::vector<Point> points;
};

struct Axis {
  std::string title;
  bool logarithmic = false;
  // Where ticks are, and what is written there.
  std::vector<std::pair<double, std::string>> ticks;
};

struct Plot {
  std::string title;
  Axis x;
  Axis y;
  std::vector<Series> series;
};

// Ticks at round numbers from 0 to at least `top`.
std::vector<std::pair<double, std::string>> linear_ticks(double top);

// What text must become between tags and in attributes.
std::string escape_html(const std::string& text);
std::string to_svg(const Plot& plot);

}  // namespace te::bench
