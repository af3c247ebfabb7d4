// Medians and ranges of a case's rounds. Pure functions, any thread.
#pragma once

#include <algorithm>
#include <vector>

namespace te::bench {

struct Summary {
  double median = 0;
  double min = 0;
  double max = 0;
};

// The middle value; of an even number, the mean of the two in the middle. Zeros when there is none.
inline Summary summarize(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {median, values.front(), values.back()};
}

}  // namespace te::bench
