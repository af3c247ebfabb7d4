// What other programs measure on this machine, where they are installed: iperf3 as a limit, the
// rest for comparison, without a bar. Threads: the main thread.
#include <fmt/core.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

#include "experiment.h"
#include "limits/programs.h"
#include "link.h"

namespace te::bench {
namespace {

// The engine against iperf3 with two connections, which is one more than the engine has on two
// cores.
class Iperf3 : public LinkExperiment {
 public:
  explicit Iperf3(Opcode opcode) : LinkExperiment({opcode, 1 << 20, 16}) {}

  std::vector<Row> rows() const override {
    return {{fmt::format("TCP {} 1 MiB x 16 beside iperf3", verb(load_.opcode)), "GB/s",
             "iperf3, 2 connections, 1 MiB", Bar::ratio_at_least(0.8)}};
  }

  Status prepare(Bench& bench) override {
    if (!installed("iperf3")) return Status(Code::kUnsupported, "iperf3 is not installed");
    TE_RETURN_IF_ERROR(open(bench, "tcp"));
    return mover_->run(bench.window_end());
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    const Result<std::string> text =
        run_pair("iperf3 -s -1 -B 127.0.0.1 -p PORT",
                 fmt::format("iperf3 -c 127.0.0.1 -p PORT -P 2 -l 1M -t 1 -J {}",
                             load_.opcode == Opcode::kRead ? "-R" : ""),
                 "sum_received");
    if (!text.ok()) return text.status();
    const auto report = nlohmann::json::parse(*text, nullptr, false);
    const nlohmann::json::json_pointer rate("/end/sum_received/bits_per_second");
    if (report.is_discarded() || !report.contains(rate)) return not_understood("iperf3");
    const Result<double> engine = gb_per_s(*mover_, bench.window_end());
    if (!engine.ok()) return engine.status();
    rows[0].add(*engine, report[rate].get<double>() / 8e9);
    return {};
  }
};

// UCX over TCP: puts of 1 MiB one after the other, and round trips of 4 KiB.
class Ucx : public Experiment {
 public:
  std::vector<Row> rows() const override {
    return {{"ucx_perftest put 1 MiB over TCP", "GB/s"},
            {"ucx_perftest one-way latency of 4 KiB over TCP, p50", "us"}};
  }

  Status prepare(Bench&) override {
    if (installed("ucx_perftest")) return {};
    return Status(Code::kUnsupported, "ucx_perftest is not installed");
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    const bool quick = bench.settings.quick;
    Result<double> rate = run("ucp_put_bw", 1 << 20, quick ? 100 : 1000, "overall_bw");
    if (!rate.ok()) return rate.status();
    Result<double> latency = run("tag_lat", 4 << 10, quick ? 1000 : 20000, "50.0_percentile_lat");
    if (!latency.ok()) return latency.status();
    rows[0].add(*rate * (1 << 20) / 1e9);  // it counts in MiB
    rows[1].add(*latency);
    return {};
  }

  Result<uint64_t> verify(Bench&) override { return 0; }

 private:
  // The column of the last line of what it prints as CSV.
  static Result<double> run(const std::string& test, uint64_t bytes, uint64_t count,
                            const std::string& column) {
    const Result<std::string> text = run_pair(
        "env UCX_TLS=tcp ucx_perftest -p PORT",
        fmt::format("env UCX_TLS=tcp ucx_perftest 127.0.0.1 -p PORT -t {} -s {} -n {} -f -v", test,
                    bytes, count),
        column);
    if (!text.ok()) return text.status();
    std::istringstream lines(*text);
    std::string titles, line, last;
    while (std::getline(lines, line)) {
      if (line.find(column) != std::string::npos) titles = line;
      if (!line.empty()) last = line;
    }
    std::istringstream names(titles), values(last);
    for (std::string name, value;
         std::getline(names, name, ',') && std::getline(values, value, ',');) {
      if (name == column) return std::strtod(value.c_str(), nullptr);
    }
    return not_understood("ucx_perftest");
  }
};

}  // namespace

void add_other_programs(Experiments& experiments) {
  experiments.push_back(std::make_unique<Iperf3>(Opcode::kWrite));
  experiments.push_back(std::make_unique<Iperf3>(Opcode::kRead));
  experiments.push_back(std::make_unique<Ucx>());
}

}  // namespace te::bench
