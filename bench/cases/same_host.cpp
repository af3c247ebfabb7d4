// Moves that need no network: between two processes of this machine, against the kernel's copy
// calls; to memory that an engine allocated, and inside one engine, against memcpy. Threads: the
// main thread.
#include <fmt/core.h>

#include <cstring>

#include "experiment.h"
#include "limits/copies.h"
#include "link.h"
#include "pattern.h"
#include "size_text.h"

namespace te::bench {
namespace {

constexpr uint64_t kSmallBlock = 4 << 10;

// A move and the copy that it is held against: throughput, or the time of one small block.
class Copying : public Experiment {
 public:
  // `small_bar`: of the time of one small block. `in_batches`: held also against threads that meet
  // at the end of each batch.
  Copying(const Load& load, std::string chart, std::string limit_name, Bar small_bar,
          bool in_batches = false)
      : load_(load),
        chart_(std::move(chart)),
        limit_name_(std::move(limit_name)),
        small_bar_(small_bar),
        in_batches_(in_batches) {}

  std::vector<Row> rows() const override {
    if (load_.block_size == kSmallBlock) {
      return {{"one " + chart_ + " of 4 KiB, p50", "us", limit_name_, small_bar_}};
    }
    const std::string name =
        fmt::format("{} {} x {}", chart_, block_text(load_.block_size), load_.batch_size);
    std::vector<Row> result = {{name,
                                "GB/s",
                                limit_name_ + ", best number of threads",
                                Bar::ratio_at_least(0.95),
                                {load_.batch_size == 1 ? "" : chart_, load_.block_size}}};
    if (in_batches_) {
      result.push_back({name + ", by batches", "GB/s",
                        limit_name_ + ", threads that meet after each batch", Bar::none()});
    }
    return result;
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    if (load_.block_size == kSmallBlock) return round_of_one_block(bench, rows[0]);
    const Result<double> limit = limit_->best(bench.settings.window);
    if (!limit.ok()) return limit.status();
    const Result<double> rate = gb_per_s(*mover_, bench.window_end());
    if (!rate.ok()) return rate.status();
    rows[0].add(*rate, *limit);
    if (!in_batches_) return {};
    const Result<double> in_batches =
        limit_->run_in_batches(load_.batch_size, bench.settings.window);
    if (!in_batches.ok()) return in_batches.status();
    rows[1].add(*rate, *in_batches);
    return {};
  }

 protected:
  Status warm_up(Bench& bench) {
    TE_RETURN_IF_ERROR(limit_->run(1, bench.settings.window).status());
    return mover_->run(bench.window_end());
  }

  const Load load_;
  const std::string chart_;
  const std::string limit_name_;
  const Bar small_bar_;
  const bool in_batches_;
  std::unique_ptr<Mover> mover_;
  std::unique_ptr<Copies> limit_;

 private:
  Status round_of_one_block(Bench& bench, Row& row) {
    tool::Histogram limit, value;
    TE_RETURN_IF_ERROR(limit_->time_blocks(bench.settings.window, limit));
    TE_RETURN_IF_ERROR(mover_->run(bench.window_end(), value));
    row.add(percentile_us(value, 50), percentile_us(limit, 50));
    row.value_ns.merge(value);
    row.limit_ns.merge(limit);
    return {};
  }
};

// To and from ordinary memory of the peer process. The engine and the limit copy between the same
// two buffers: which pages the kernel gave to a buffer is worth up to a tenth. So that each is
// known to have copied what arrived, the limit does so before the engine begins, and the engine
// into memory that was wiped.
class BetweenProcesses : public Copying {
 public:
  explicit BetweenProcesses(const Load& load)
      : Copying(load, fmt::format("same-host {}", verb(load.opcode)),
                load.opcode == Opcode::kWrite ? "process_vm_writev" : "process_vm_readv",
                Bar::ratio_at_most(1.3), true) {}

  Status prepare(Bench& bench) override {
    TE_RETURN_IF_ERROR(link_.open(bench, "shm", load_.opcode));
    mover_ = link_.mover(bench, load_);
    const Result<Words> memory = bench.peer.ask("memory");
    if (!memory.ok()) return memory.status();
    const auto pid = static_cast<pid_t>(std::stol(memory->at(0)));
    limit_ = std::make_unique<Copies>(
        process_vm_block(pid, load_.opcode, bench.buffers.main.data(), std::stoull(memory->at(1))),
        load_.block_size, bench.buffers.main.size());
    TE_RETURN_IF_ERROR(wipe(bench));
    TE_RETURN_IF_ERROR(limit_->run(1, bench.settings.window).status());
    TE_RETURN_IF_ERROR(link_.verify(bench, "main", 0, 1, limit_->copied_bytes(), &verified_)
                           .with_context("the limit"));
    TE_RETURN_IF_ERROR(wipe(bench));
    TE_RETURN_IF_ERROR(mover_->run(bench.window_end()));
    return link_.verify(bench, "main", 0, 1, mover_->moved_bytes(), &verified_);
  }

  Result<uint64_t> verify(Bench& bench) override {
    TE_RETURN_IF_ERROR(link_.verify(bench, "main", 0, 1, mover_->moved_bytes(), &verified_));
    return verified_;
  }

  void finish(Bench& bench) override {
    mover_.reset();
    link_.close(bench);
  }

 private:
  // Other bytes than the source's, where the copies arrive.
  Status wipe(Bench& bench) {
    const uint64_t other = bench.next_seed();
    const std::span<std::byte> here = bench.buffers.main_bytes();
    if (load_.opcode == Opcode::kWrite) {
      return bench.peer.ask(fmt::format("fill main {} 0 {}", other, here.size())).status();
    }
    tool::fill_pattern(other, 0, here);
    return {};
  }

  Link link_;
  uint64_t verified_ = 0;
};

// The first half of the main buffer is the source; the second half is where the engine's copies
// arrive, and the limit buffer where the limit's do.
class InOneEngine : public Copying {
 public:
  explicit InOneEngine(const Load& load) : Copying(load, "local copy", "memcpy", Bar::none()) {}

  Status prepare(Bench& bench) override {
    Result<std::unique_ptr<Engine>> engine = make_engine("tcp");
    if (!engine.ok()) return engine.status();
    engine_ = engine.take();
    seed_ = bench.next_seed();
    const std::span<std::byte> source = stripe(bench.buffers.main_bytes(), 0, 2);
    tool::fill_pattern(seed_, 0, source);
    const tool::MappedMemory& memory = bench.buffers.main;
    TE_RETURN_IF_ERROR(engine_->register_memory(memory.data(), memory.size()));
    mover_ = std::make_unique<Mover>(*engine_, kLocalSegment, load_, source, source.size());
    limit_ = std::make_unique<Copies>(memcpy_block(bench.buffers.limit.data(), source.data()),
                                      load_.block_size, source.size());
    return warm_up(bench);
  }

  Result<uint64_t> verify(Bench& bench) override {
    const std::span<std::byte> arrived = stripe(bench.buffers.main_bytes(), 1, 2);
    const uint64_t moved = covered(mover_->moved_bytes(), arrived.size());
    const uint64_t copied = covered(limit_->copied_bytes(), arrived.size());
    TE_RETURN_IF_ERROR(expect_pattern(seed_, 0, arrived.first(moved)).with_context("the engine"));
    TE_RETURN_IF_ERROR(expect_pattern(seed_, 0, bench.buffers.limit_bytes().first(copied))
                           .with_context("the limit"));
    return moved + copied;
  }

  void finish(Bench&) override {
    mover_.reset();
    engine_.reset();
  }

 private:
  uint64_t seed_ = 0;
  std::unique_ptr<Engine> engine_;
};

// To and from memory that the engine of the peer process allocated, against memcpy between the same
// kinds of memory inside this one.
class IntoAllocated : public Copying {
 public:
  explicit IntoAllocated(const Load& load)
      : Copying(load, fmt::format("same-host {} (allocated)", verb(load.opcode)), "memcpy",
                Bar::none()) {}

  Status prepare(Bench& bench) override {
    TE_RETURN_IF_ERROR(link_.open_allocated(bench, "shm", load_.opcode));
    mover_ = link_.mover(bench, load_);
    const std::span<std::byte> local = bench.buffers.main_bytes();
    const Result<void*> allocated = link_.engine().allocate(local.size());
    if (!allocated.ok()) return allocated.status();
    const std::span<std::byte> mapped{static_cast<std::byte*>(*allocated), local.size()};
    const bool writing = load_.opcode == Opcode::kWrite;
    copied_ = writing ? mapped : bench.buffers.limit_bytes();
    const std::span<std::byte> source = writing ? local : mapped;
    if (writing) {
      std::memset(mapped.data(), 0, mapped.size());  // so that its pages are there
    } else {
      tool::fill_pattern(link_.seed(), 0, mapped);
    }
    limit_ = std::make_unique<Copies>(memcpy_block(copied_.data(), source.data()), load_.block_size,
                                      source.size());
    return warm_up(bench);
  }

  Result<uint64_t> verify(Bench& bench) override {
    uint64_t verified = covered(limit_->copied_bytes(), copied_.size());
    TE_RETURN_IF_ERROR(
        expect_pattern(link_.seed(), 0, copied_.first(verified)).with_context("the limit"));
    const char* const arrived = load_.opcode == Opcode::kWrite ? "allocated" : "main";
    TE_RETURN_IF_ERROR(link_.verify(bench, arrived, 0, 1, mover_->moved_bytes(), &verified));
    return verified;
  }

  void finish(Bench& bench) override {
    mover_.reset();
    link_.close(bench);
  }

 private:
  Link link_;
  std::span<std::byte> copied_;  // where the limit's copies arrive
};

}  // namespace

void add_same_host(Experiments& experiments) {
  const std::pair<uint64_t, uint64_t> shapes[] = {{64 << 10, 16},  {256 << 10, 16}, {1 << 20, 16},
                                                  {4 << 20, 8},    {16 << 20, 2},   {16 << 20, 1},
                                                  {kSmallBlock, 1}};
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    for (const auto& [block_size, batch_size] : shapes) {
      experiments.push_back(
          std::make_unique<BetweenProcesses>(Load{opcode, block_size, batch_size}));
    }
  }
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    for (const auto& [block_size, batch_size] : shapes) {
      experiments.push_back(std::make_unique<IntoAllocated>(Load{opcode, block_size, batch_size}));
    }
  }
  for (const auto& [block_size, batch_size] : shapes) {
    experiments.push_back(
        std::make_unique<InOneEngine>(Load{Opcode::kWrite, block_size, batch_size}));
  }
}

}  // namespace te::bench
