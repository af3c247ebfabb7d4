// RDMA throughput and latency against perftest's programs, which post to the card directly, and the
// latency of one write against te_rdma_limit too: ib_write_lat tells half of a ping-pong, while a
// write of the engine is complete when the other card has acknowledged it. One card for both sides:
// the first, or the one that TE_NICS names. Threads: the main thread.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "experiment.h"
#include "limits/programs.h"
#include "link.h"

namespace te::bench {
namespace {

// Longer than others' windows: where cards are emulated all is slow.
constexpr int kWindows = 4;

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

// The column of perftest's only line of figures, which begins with the size.
Result<double> figure(const std::string& program, const std::string& card, uint64_t bytes,
                      const std::string& more, size_t column) {
  const std::string common = fmt::format("-d {} -s {} -F -p PORT {}", card, bytes, more);
  const Result<std::string> text = run_pair(fmt::format("{} {}", program, common),
                                            fmt::format("{} {} 127.0.0.1", program, common));
  if (!text.ok()) return text.status();
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::vector<double> numbers;
    for (double number = 0; words >> number;) numbers.push_back(number);
    if (numbers.size() > column && numbers.front() == static_cast<double>(bytes)) {
      return numbers[column];
    }
  }
  return not_understood(program);
}

class RdmaThroughput : public Experiment {
 public:
  RdmaThroughput(Opcode opcode, uint64_t block_size, uint64_t batch_size)
      : load_{opcode, block_size, batch_size},
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
    TE_RETURN_IF_ERROR(link_.open(bench, "rdma", load_.opcode));
    mover_ = link_.mover(bench, load_);
    return mover_->run(bench.window_end());
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    const Result<double> limit =
        figure(program_, card_, load_.block_size,
               fmt::format("-D 2 --report_gbits -t {}", load_.batch_size), 3);
    if (!limit.ok()) return limit.status();
    const uint64_t before = mover_->moved_bytes();
    const Clock::time_point begin = Clock::now();
    TE_RETURN_IF_ERROR(mover_->run(begin + kWindows * bench.settings.window));
    const double took = seconds(Clock::now() - begin);
    rows[0].add(static_cast<double>(mover_->moved_bytes() - before) / took / 1e9, *limit / 8);
    return {};
  }

  Result<uint64_t> verify(Bench& bench) override {
    uint64_t verified = 0;
    TE_RETURN_IF_ERROR(link_.verify(bench, "main", 0, 1, mover_->moved_bytes(), &verified));
    return verified;
  }

  void finish(Bench& bench) override {
    mover_.reset();
    link_.close(bench);
  }

 private:
  const Load load_;
  const std::string program_;
  std::string card_;
  Link link_;
  std::unique_ptr<Mover> mover_;
};

class RdmaLatency : public Experiment {
 public:
  explicit RdmaLatency(uint64_t bytes) : load_{Opcode::kWrite, bytes, 1, Waiting::kPoll} {}

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
    TE_RETURN_IF_ERROR(link_.open(bench, "rdma", load_.opcode));
    mover_ = link_.mover(bench, load_);
    return mover_->run(bench.window_end());
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    const Result<double> one_way = figure("ib_write_lat", card_, load_.block_size, "-n 5000", 4);
    if (!one_way.ok()) return one_way.status();
    const Result<double> acknowledged = plain_write();
    if (!acknowledged.ok()) return acknowledged.status();
    tool::Histogram value;
    TE_RETURN_IF_ERROR(mover_->run(bench.window_end(), value));
    const double median = static_cast<double>(value.percentile(50)) / 1e3;
    rows[0].add(median, *one_way);
    rows[1].add(median, *acknowledged);
    for (Row& row : rows) row.value_ns.merge(value);
    return {};
  }

  Result<uint64_t> verify(Bench& bench) override {
    uint64_t verified = 0;
    TE_RETURN_IF_ERROR(link_.verify(bench, "main", 0, 1, mover_->moved_bytes(), &verified));
    return verified;
  }

  void finish(Bench& bench) override {
    mover_.reset();
    link_.close(bench);
  }

 private:
  // Microseconds; by te_rdma_limit, which lies beside this program.
  Result<double> plain_write() const {
    std::error_code failed;
    const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", failed);
    const std::string program = self.parent_path() / "te_rdma_limit";
    if (failed || !std::filesystem::exists(program, failed)) {
      return Status(Code::kUnsupported, "te_rdma_limit was not built: it needs libibverbs-dev");
    }
    const Result<std::string> text =
        output_of(fmt::format("'{}' {} {} 5000", program, card_, load_.block_size));
    if (!text.ok()) return text.status();
    const double ns = std::strtod(text->c_str(), nullptr);
    return ns > 0 ? Result<double>(ns / 1e3) : not_understood("te_rdma_limit");
  }

  const Load load_;
  std::string card_;
  Link link_;
  std::unique_ptr<Mover> mover_;
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
