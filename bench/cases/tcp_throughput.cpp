// TCP throughput and what it costs in CPU time, against plain sockets; and with many submitting
// threads, against one. Threads: the main thread; the submitting threads of one measurement.
#include <fmt/core.h>

#include <thread>

#include "experiment.h"
#include "limits/stream_pair.h"
#include "link.h"
#include "usage_meter.h"

namespace te::bench {
namespace {

constexpr size_t kConnections = 2;
constexpr uint64_t kLimitBlock = 1 << 20;
constexpr uint64_t kSmallBlock = 4 << 10;
constexpr size_t kThreads = 8;

class Throughput : public LinkExperiment {
 public:
  Throughput(Opcode opcode, uint64_t block_size, uint64_t batch_size, Bar bar, Bar cpu_bar)
      : LinkExperiment({opcode, block_size, batch_size}), bar_(bar), cpu_bar_(cpu_bar) {}

  std::vector<Row> rows() const override {
    const std::string chart = fmt::format("TCP {}", verb(load_.opcode));
    const std::string what =
        fmt::format("{} {} x {}", chart, block_text(load_.block_size), load_.batch_size);
    const std::string limit =
        fmt::format("{} sockets, sends of {}", kConnections, block_text(limit_block()));
    Row speed(what, "GB/s", limit, bar_, {chart, load_.block_size});
    Row cpu(what + ", CPU of both sides", "s/GB", limit, cpu_bar_, {chart, load_.block_size});
    return {speed, cpu};
  }

  Status prepare(Bench& bench) override {
    TE_RETURN_IF_ERROR(open(bench, "tcp"));
    TE_RETURN_IF_ERROR(limit_.open(bench, kConnections));
    // The kernel fits a connection's buffers to its use: not while it is measured.
    const Result<uint64_t> warm = limit_.run(bench, load_.opcode, limit_block());
    if (!warm.ok()) return warm.status();
    return mover_->run(bench.window_end());
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    const Result<Usage> limit =
        measure(bench, [&] { return limit_.run(bench, load_.opcode, limit_block()); });
    if (!limit.ok()) return limit.status();
    const Result<Usage> usage = measure(bench, [&]() -> Result<uint64_t> {
      const uint64_t before = mover_->moved_bytes();
      TE_RETURN_IF_ERROR(mover_->run(bench.window_end()));
      return mover_->moved_bytes() - before;
    });
    if (!usage.ok()) return usage.status();
    rows[0].add(usage->gb_per_s(), limit->gb_per_s());
    rows[1].add(usage->cpu_s_per_gb(), limit->cpu_s_per_gb());
    return {};
  }

  Result<uint64_t> verify(Bench& bench) override {
    Result<uint64_t> verified = LinkExperiment::verify(bench);
    for (size_t i = 0; i < kConnections && verified.ok(); ++i) {
      TE_RETURN_IF_ERROR(
          link_.verify(bench, "limit", i, kConnections, limit_.totals()[i], &*verified));
    }
    return verified;
  }

  void finish(Bench& bench) override {
    limit_.close(bench);
    LinkExperiment::finish(bench);
  }

 private:
  uint64_t limit_block() const {
    return load_.block_size == kSmallBlock ? kSmallBlock : kLimitBlock;
  }

  const Bar bar_;
  const Bar cpu_bar_;
  StreamPair limit_;
};

class ManyThreads : public Experiment {
 public:
  ManyThreads(Opcode opcode, uint64_t block_size) : load_{opcode, block_size, 16} {}

  std::vector<Row> rows() const override {
    return {{fmt::format("TCP {} {} x {}, {} threads", verb(load_.opcode),
                         block_text(load_.block_size), load_.batch_size, kThreads),
             "GB/s", "one thread", Bar::ratio_at_least(0.9)}};
  }

  // With engines of its own for the one thread: connections that many threads used have grown
  // other buffers.
  Status prepare(Bench& bench) override {
    TE_RETURN_IF_ERROR(one_link_.open(bench, "tcp", load_.opcode, 0, 2));
    TE_RETURN_IF_ERROR(many_link_.open(bench, "tcp", load_.opcode, 1, 2));
    one_.push_back(one_link_.mover(bench, load_));
    for (size_t i = 0; i < kThreads; ++i) {
      many_.push_back(many_link_.mover(bench, load_, i, kThreads));
    }
    TE_RETURN_IF_ERROR(run(bench, one_).status());
    return run(bench, many_).status();
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    const Result<Usage> one = measure(bench, [&] { return run(bench, one_); });
    if (!one.ok()) return one.status();
    const Result<Usage> many = measure(bench, [&] { return run(bench, many_); });
    if (!many.ok()) return many.status();
    rows[0].add(many->gb_per_s(), one->gb_per_s());
    return {};
  }

  Result<uint64_t> verify(Bench& bench) override {
    uint64_t verified = 0;
    TE_RETURN_IF_ERROR(one_link_.verify(bench, "main", 0, 1, one_[0]->moved_bytes(), &verified));
    for (size_t i = 0; i < kThreads; ++i) {
      TE_RETURN_IF_ERROR(
          many_link_.verify(bench, "main", i, kThreads, many_[i]->moved_bytes(), &verified));
    }
    return verified;
  }

  void finish(Bench& bench) override {
    one_.clear();
    many_.clear();
    one_link_.close(bench);
    many_link_.close(bench);
  }

 private:
  using Movers = std::vector<std::unique_ptr<Mover>>;

  // Each mover in a thread of its own; the bytes that they moved.
  static Result<uint64_t> run(Bench& bench, const Movers& movers) {
    const Clock::time_point end = bench.window_end();
    std::vector<Status> ends(movers.size());
    std::vector<std::thread> threads;
    uint64_t moved = 0;
    for (size_t i = 0; i < movers.size(); ++i) {
      moved -= movers[i]->moved_bytes();
      threads.emplace_back(
          [&mover = *movers[i], &status = ends[i], end] { status = mover.run(end); });
    }
    for (std::thread& thread : threads) thread.join();
    for (size_t i = 0; i < movers.size(); ++i) {
      TE_RETURN_IF_ERROR(ends[i]);
      moved += movers[i]->moved_bytes();
    }
    return moved;
  }

  const Load load_;
  Link one_link_;
  Link many_link_;
  Movers one_;
  Movers many_;
};

struct Shape {
  uint64_t block_size;
  uint64_t batch_size;
  Bar bar;
  Bar cpu_bar;
};

}  // namespace

void add_tcp_throughput(Experiments& experiments) {
  // Those without a bar are there for the plots.
  const Shape shapes[] = {
      {kSmallBlock, 128, Bar::ratio_at_least(1.0), Bar::none()},
      {16 << 10, 64, Bar::none(), Bar::none()},
      {64 << 10, 16, Bar::ratio_at_least(0.85), Bar::none()},
      {256 << 10, 16, Bar::none(), Bar::none()},
      {1 << 20, 16, Bar::ratio_at_least(0.95), Bar::ratio_at_most(1.15)},
      {4 << 20, 8, Bar::none(), Bar::none()},
      {16 << 20, 2, Bar::none(), Bar::none()},
  };
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    for (const Shape& shape : shapes) {
      experiments.push_back(std::make_unique<Throughput>(opcode, shape.block_size, shape.batch_size,
                                                         shape.bar, shape.cpu_bar));
    }
  }
  for (const uint64_t block_size : {uint64_t{1} << 20, uint64_t{64} << 10}) {
    for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
      experiments.push_back(std::make_unique<ManyThreads>(opcode, block_size));
    }
  }
}

}  // namespace te::bench
