// What a benchmark prints: the closing table, its JSON form, the live progress line.
// Pure functions, except ProgressLine, which owns one line of the terminal; one thread at a time.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "bench_case.h"

namespace te::tool {

struct Report {
  std::string segment;
  uint64_t batch_size = 0;  // asked for; a case has less where the memory holds no more blocks
  std::vector<CaseResult> cases;
  std::vector<PathInfo> paths;  // that carried bytes, or failed
  std::string error;  // empty when everything asked for was measured, or it was interrupted
};

// 10^9 bytes per second; 0 for no time.
double gigabytes_per_second(const CaseResult& result);

std::string report_text(const Report& report);
nlohmann::ordered_json report_json(const Report& report);

// Rewrites one line of stderr when that is a terminal, and nothing otherwise.
class ProgressLine {
 public:
  ProgressLine();
  // `label` says which case runs.
  void show(const std::string& label, const Progress& progress, uint64_t duration_ms);
  void clear();

 private:
  bool enabled_;
  bool shown_ = false;
  Progress last_;
};

// "write 64K".
std::string case_label(const CaseSpec& spec);

}  // namespace te::tool
