// RDMA throughput and latency against perftest's programs, which post to the card directly, and the
// latency of one write against te_rdma_limit too: ib_write_lat tells half of a ping-pong, while a
// write of the engine is complete when the other card has acknowledged it. One card for both sides:
// the first, or the one that TE_NICS names. Threads: the main thread.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "experiment.h"
#include "limits/programs.h"
#include "link.h"

namespace te::bench {
namespace {

constexpr double kMiB = 1 << 20;  // what perftest counts in

// Longer than others' windows: where cards are emulated all is slow.
Clock::time_point long_window_end(const Bench& bench) {
  return Clock::now() + 4 * bench.settings.window;
}

// Ok where an engine and perftest both have a card.
Result<std::string> card_of(const std::string& program) {
  if (!installed(program)) {
    return Status(Code::kUnsupported, fmt::format("{} is not installed (perftest)", program));
  }
  const Result<std::unique_ptr<Engine>> engine = make_engine("rdma");
  if (!engine.ok()) return engine.status();
  const std::vector<DeviceLoad> loads = (*engine)->device_loads();
  const auto card = std::find_if(loads.begin(), loads.end(),
                                 [](const DeviceLoad& load) { return load.device != "local"; });
  if (card == loads.end()) return Status(Code::kUnsupported, "the engine shows no card");
  return card->device;
}

// The column of perftest's only line of figures, which begins with the size. Never 0, which it says
// now and then of a measurement that did not work out: asked again.
Result<double> figure(const std::string& program, const std::string& card, uint64_t bytes,
                      const std::string& more, size_t column) {
  const std::string common = fmt::format("-d {} -s {} -F -p PORT {}", card, bytes, more);
  for (int attempt = 0; attempt < 3; ++attempt) {
    const Result<std::string> text =
        run_pair(fmt::format("{} {}", program, common),
                 fmt::format("{} {} 127.0.0.1", program, common), "#bytes");
    if (!text.ok()) return text.status();
    std::istringstream lines(*text);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::vector<double> numbers;
      for (double number = 0; words >> number;) numbers.push_back(number);
      const bool right = numbers.size() > column && numbers.front() == static_cast<double>(bytes);
      if (right && numbers[column] > 0) return numbers[column];
    }
  }
  return not_understood(program);
}

class RdmaThroughput : public LinkExperiment {
 public:
  RdmaThroughput(Opcode opcode, uint64_t block_size, uint64_t batch_size)
      : LinkExperiment({opcode, block_size, batch_size}),
        program_(opcode == Opcode::kRead ? "ib_read_bw" : "ib_write_bw") {}

  std::vector<Row> rows() const override {
    const std::string chart = fmt::format("RDMA {}", verb(load_.opcode));
    return {{fmt::format("{} {} x {}", chart, block_text(load_.block_size), load_.batch_size),
             "GB/s",
             program_,
             Bar::ratio_at_least(0.95),
             {chart, load_.block_size}}};
  }

  Status prepare(Bench& bench) override {
    Result<std::string> card = card_of(program_);
    if (!card.ok()) return card.status();
    card_ = card.take();
    TE_RETURN_IF_ERROR(open(bench, "rdma"));
    return mover_->run(bench.window_end());
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    const Result<double> limit =
        figure(program_, card_, load_.block_size, fmt::format("-D 2 -t {}", load_.batch_size), 3);
    if (!limit.ok()) return limit.status();
    const Result<double> rate = gb_per_s(*mover_, long_window_end(bench));
    if (!rate.ok()) return rate.status();
    rows[0].add(*rate, *limit * kMiB / 1e9);
    return {};
  }

 private:
  const std::string program_;
  std::string card_;
};

class RdmaLatency : public LinkExperiment {
 public:
  explicit RdmaLatency(uint64_t bytes)
      : LinkExperiment({Opcode::kWrite, bytes, 1, Waiting::kPoll}) {}

  std::vector<Row> rows() const override {
    const std::string size = block_text(load_.block_size);
    return {{fmt::format("one RDMA write of {}, polling, p50", size), "us", "ib_write_lat, one way",
             Bar::ratio_at_most(1.2)},
            {fmt::format("one RDMA write of {}, acknowledged, p50", size), "us",
             "post one write, poll for it", Bar::ratio_at_most(1.2)}};
  }

  Status prepare(Bench& bench) override {
    Result<std::string> card = card_of("ib_write_lat");
    if (!card.ok()) return card.status();
    card_ = card.take();
    TE_RETURN_IF_ERROR(open(bench, "rdma"));
    return mover_->run(bench.window_end());
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    const Result<double> one_way = figure("ib_write_lat", card_, load_.block_size, "-n 5000", 4);
    if (!one_way.ok()) return one_way.status();
    const Result<double> acknowledged = plain_write();
    if (!acknowledged.ok()) return acknowledged.status();
    tool::Histogram value;
    TE_RETURN_IF_ERROR(mover_->run(long_window_end(bench), value));
    const double median = percentile_us(value, 50);
    rows[0].add(median, *one_way);
    rows[1].add(median, *acknowledged);
    for (Row& row : rows) row.value_ns.merge(value);
    return {};
  }

 private:
  // Microseconds; by te_rdma_limit.
  Result<double> plain_write() const {
    const Result<std::string> program = program_beside("te_rdma_limit", "libibverbs-dev");
    if (!program.ok()) return program.status();
    const Result<std::string> text =
        output_of(fmt::format("'{}' {} {} 5000", *program, card_, load_.block_size));
    if (!text.ok()) return text.status();
    const double ns = std::strtod(text->c_str(), nullptr);
    return ns > 0 ? Result<double>(ns / 1e3) : not_understood("te_rdma_limit");
  }

  std::string card_;
};

}  // namespace

void add_rdma(Experiments& experiments) {
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    experiments.push_back(std::make_unique<RdmaThroughput>(opcode, 64 << 10, 32));
    experiments.push_back(std::make_unique<RdmaThroughput>(opcode, 1 << 20, 16));
  }
  for (const uint64_t bytes : {uint64_t{64}, uint64_t{4} << 10}) {
    experiments.push_back(std::make_unique<RdmaLatency>(bytes));
  }
}

}  // namespace te::bench
