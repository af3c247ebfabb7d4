#include "run.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <regex>

#include "stop_signals.h"

namespace te::bench {
namespace {

Status measure_rounds(Bench& bench, Experiment& experiment, std::vector<Row>& rows) {
  TE_RETURN_IF_ERROR(experiment.prepare(bench));
  for (uint64_t i = 0; i < bench.settings.rounds; ++i) {
    if (tool::stop_signal() != 0) return Status(Code::kCancelled, "stopped by a signal");
    TE_RETURN_IF_ERROR(experiment.round(bench, rows));
  }
  const Result<uint64_t> verified = experiment.verify(bench);
  if (!verified.ok()) return verified.status();
  for (Row& row : rows) row.verified_bytes = *verified;
  return {};
}

}  // namespace

Experiments all_experiments() {
  Experiments result;
  add_tcp_throughput(result);
  add_tcp_latency(result);
  add_tls(result);
  add_same_host(result);
  add_engine(result);
  add_many_peers(result);
  add_spinning(result);
  add_fabric(result);
  add_rdma(result);
  add_python(result);
  add_other_programs(result);
  return result;
}

Result<Experiments> select(Experiments experiments, const std::string& filter) {
  std::regex pattern;
  try {
    pattern = std::regex(filter, std::regex::icase);
  } catch (const std::regex_error& error) {
    return Status(Code::kInvalidArgument,
                  fmt::format("--filter '{}' is no regular expression: {}", filter, error.what()));
  }
  std::erase_if(experiments, [&](const std::unique_ptr<Experiment>& experiment) {
    const std::vector<Row> rows = experiment->rows();
    return std::none_of(rows.begin(), rows.end(),
                        [&](const Row& row) { return std::regex_search(row.name, pattern); });
  });
  return experiments;
}

std::vector<Row> run(Bench& bench, Experiments& experiments) {
  std::vector<Row> result;
  size_t number = 0;
  for (const std::unique_ptr<Experiment>& experiment : experiments) {
    std::vector<Row> rows = experiment->rows();
    fmt::print(stderr, "[{}/{}] {}\n", ++number, experiments.size(), rows.front().name);
    const Status status = measure_rounds(bench, *experiment, rows);
    experiment->finish(bench);
    if (!status.ok() && tool::stop_signal() != 0) break;
    for (Row& row : rows) {
      if (status.code() == Code::kUnsupported) {
        row.skipped = status.message();
      } else if (!status.ok()) {
        row.failed = status.to_string();
      }
      result.push_back(std::move(row));
    }
    if (tool::stop_signal() != 0) break;
  }
  return result;
}

}  // namespace te::bench
