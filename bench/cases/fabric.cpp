// The engine over libfabric's tcp provider: throughput against a plain loop on the same provider,
// and what a warm-up saves. Threads: the main thread.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <optional>

#include "experiment.h"
#include "limits/programs.h"
#include "link.h"
#include "pattern.h"

namespace te::bench {
namespace {

constexpr const char* kTransport = "fabric:tcp";
constexpr double kNsPerUs = 1e3;

// te_fabric_limit.
class PlainLoop {
 public:
  Status start() {
    const Result<std::string> program = program_beside("te_fabric_limit", "libfabric-dev");
    if (!program.ok()) return program.status();
    Result<tool::ChildProcess> process = tool::ChildProcess::start(*program, {"tcp", "127.0.0.1"});
    if (!process.ok()) return process.status();
    process_.emplace(process.take());
    return process_->read_line(kAnswerTime).status().with_context(*program);
  }
  void stop() { process_.reset(); }

  // Bytes per second of one window.
  Result<double> run(const Bench& bench, const Load& load) {
    TE_RETURN_IF_ERROR(process_->write_line(fmt::format(
        "{} {} {}", verb(load.opcode), load.block_size, bench.settings.window.count())));
    const Result<std::string> line = process_->read_line(kAnswerTime);
    if (!line.ok()) return line.status().with_context("te_fabric_limit");
    return std::strtod(line->c_str(), nullptr);
  }

 private:
  static constexpr std::chrono::seconds kAnswerTime{30};

  std::optional<tool::ChildProcess> process_;
};

class FabricThroughput : public LinkExperiment {
 public:
  FabricThroughput(Opcode opcode, uint64_t block_size)
      : LinkExperiment({opcode, block_size, kDepth}) {}

  std::vector<Row> rows() const override {
    const std::string chart = fmt::format("libfabric {}", verb(load_.opcode));
    return {{fmt::format("{} {} x {}", chart, block_text(load_.block_size), load_.batch_size),
             "GB/s",
             fmt::format("a loop of fi_{}, the same blocks", verb(load_.opcode)),
             Bar::ratio_at_least(0.95),
             {chart, load_.block_size}}};
  }

  Status prepare(Bench& bench) override {
    TE_RETURN_IF_ERROR(open(bench, kTransport));
    TE_RETURN_IF_ERROR(limit_.start());
    TE_RETURN_IF_ERROR(limit_.run(bench, load_).status());
    return mover_->run(bench.window_end());
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    const Result<double> limit = limit_.run(bench, load_);
    if (!limit.ok()) return limit.status();
    const Result<double> rate = gb_per_s(*mover_, bench.window_end());
    if (!rate.ok()) return rate.status();
    rows[0].add(*rate, *limit / 1e9);
    return {};
  }

  void finish(Bench& bench) override {
    limit_.stop();
    LinkExperiment::finish(bench);
  }

 private:
  static constexpr uint64_t kDepth = 16;  // as many as te_fabric_limit has under way

  PlainLoop limit_;
};

// A batch with a block for each of sixteen addresses, right after connecting and later; and without
// a warm-up, when the first one connects. Each time with an engine that nobody knows yet.
class FabricWarmUp : public Experiment {
 public:
  static constexpr size_t kAddresses = 16;
  static constexpr uint64_t kBlock = 64 << 10;
  static constexpr size_t kSteady = 20;

  std::vector<Row> rows() const override {
    const std::string what = fmt::format("first libfabric write to {} addresses", kAddresses);
    return {{what + " after a warm-up", "us", "a later one, p50", Bar::ratio_at_most(1.5)},
            {what + " without one", "us", "a later one, p50"}};
  }

  Status prepare(Bench& bench) override {
    seed_ = bench.next_seed();
    source_ = bench.buffers.main_bytes().first(kAddresses * kBlock);
    tool::fill_pattern(seed_, 0, source_);
    Result<Words> names = bench.peer.ask(fmt::format("serve {} {}", kTransport, kAddresses));
    if (!names.ok()) return names.status();
    names_ = names.take();
    return measure(true, nullptr);
  }

  Status round(Bench&, std::span<Row> rows) override {
    TE_RETURN_IF_ERROR(measure(true, &rows[0]));
    return measure(false, &rows[1]);
  }

  // Each address has its block at the beginning of its stripe.
  Result<uint64_t> verify(Bench& bench) override {
    const uint64_t stripe_bytes = bench.buffers.main.size() / kAddresses;
    for (size_t i = 0; i < kAddresses; ++i) {
      TE_RETURN_IF_ERROR(bench.peer
                             .ask(fmt::format("verify main {} {} {} {}", seed_, i * stripe_bytes,
                                              kBlock, i * kBlock))
                             .status());
    }
    return kAddresses * kBlock;
  }

  void finish(Bench& bench) override { (void)bench.peer.ask("end_engines"); }

 private:
  // One batch, in microseconds.
  Result<double> move(Engine& engine, const std::vector<SegmentId>& segments) {
    std::vector<TransferRequest> requests;
    for (size_t i = 0; i < kAddresses; ++i) {
      requests.push_back({Opcode::kWrite, source_.data() + i * kBlock, segments[i], 0, kBlock});
    }
    const Clock::time_point begin = Clock::now();
    const Result<BatchId> batch = engine.allocate_batch(kAddresses);
    if (!batch.ok()) return batch.status();
    TE_RETURN_IF_ERROR(engine.submit(*batch, requests));
    TE_RETURN_IF_ERROR(engine.wait(*batch));
    TE_RETURN_IF_ERROR(batch_end(engine, *batch, kAddresses));
    TE_RETURN_IF_ERROR(engine.free_batch(*batch));
    return static_cast<double>((Clock::now() - begin).count()) / kNsPerUs;
  }

  Status measure(bool warm, Row* row) {
    const Result<std::unique_ptr<Engine>> engine = make_engine(kTransport);
    if (!engine.ok()) return engine.status();
    TE_RETURN_IF_ERROR((*engine)->register_memory(source_.data(), source_.size()));
    std::vector<SegmentId> segments;
    for (const std::string& name : names_) {
      const Result<SegmentId> segment = (*engine)->open_segment(name);
      if (!segment.ok()) return segment.status();
      segments.push_back(*segment);
    }
    for (const std::string& name : names_) {
      if (warm) TE_RETURN_IF_ERROR((*engine)->warmup_segment(name));
    }
    const Result<double> first_us = move(**engine, segments);
    if (!first_us.ok()) return first_us.status();
    std::vector<double> later_us;
    for (size_t i = 0; i < kSteady; ++i) {
      const Result<double> later = move(**engine, segments);
      if (!later.ok()) return later.status();
      later_us.push_back(*later);
    }
    if (row != nullptr) row->add(*first_us, summarize(std::move(later_us)).median);
    return {};
  }

  uint64_t seed_ = 0;
  std::span<std::byte> source_;
  Words names_;
};

}  // namespace

void add_fabric(Experiments& experiments) {
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    for (const uint64_t block_size : {uint64_t{64} << 10, uint64_t{1} << 20}) {
      experiments.push_back(std::make_unique<FabricThroughput>(opcode, block_size));
    }
  }
  experiments.push_back(std::make_unique<FabricWarmUp>());
}

}  // namespace te::bench
