// What the engine itself takes, beside the bytes: submitting, asking, registering. Threads: the
// main thread.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <random>

#include <fmt/core.h>

#include "experiment.h"
#include "link.h"
#include "pattern.h"

namespace te::bench {
namespace {

double ns(Clock::duration time) { return std::chrono::duration<double, std::nano>(time).count(); }

// Submits, notes how long that took, and waits for the end of what was submitted.
Result<Clock::duration> time_submit(Engine& engine, std::span<const TransferRequest> requests) {
  const Result<BatchId> batch = engine.allocate_batch(requests.size());
  if (!batch.ok()) return batch.status();
  const Clock::time_point begin = Clock::now();
  TE_RETURN_IF_ERROR(engine.submit(*batch, requests));
  const Clock::duration result = Clock::now() - begin;
  TE_RETURN_IF_ERROR(engine.wait(*batch));
  TE_RETURN_IF_ERROR(batch_end(engine, *batch, requests.size()));
  TE_RETURN_IF_ERROR(engine.free_batch(*batch));
  return result;
}

// The median of several, for `repeats` from a time budget.
Result<double> median_submit_ns(Engine& engine, std::span<const TransferRequest> requests,
                                Clock::time_point end) {
  std::vector<double> times;
  do {
    const Result<Clock::duration> time = time_submit(engine, requests);
    if (!time.ok()) return time.status();
    times.push_back(ns(*time));
  } while (Clock::now() < end);
  return summarize(std::move(times)).median;
}

class Submitting : public Experiment {
 public:
  static constexpr uint64_t kBlock = 4 << 10;
  static constexpr uint64_t kMany = 112'000;

  explicit Submitting(uint64_t count) : count_(count) {}

  std::vector<Row> rows() const override {
    const std::string what = fmt::format("submit of {} TCP writes of 4 KiB", count_);
    std::vector<Row> result = {
        {what + ", each", "ns", "", Bar::value_at_most(100)},
        {fmt::format("status read, batch of {}", count_), "ns", "", Bar::value_at_most(10)}};
    if (count_ == kMany) result.push_back({what + ", all", "ms", "", Bar::value_at_most(20)});
    return result;
  }

  Status prepare(Bench& bench) override {
    TE_RETURN_IF_ERROR(link_.open(bench, "tcp", Opcode::kWrite));
    const tool::MappedMemory& memory = bench.buffers.main;
    for (uint64_t i = 0; i < count_; ++i) {
      const uint64_t offset = i * kBlock % memory.size();
      requests_.push_back(
          {Opcode::kWrite, memory.data() + offset, link_.segment(), offset, kBlock});
    }
    return time_submit(link_.engine(), requests_).status();
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    const Result<double> submit = median_submit_ns(link_.engine(), requests_, bench.window_end());
    if (!submit.ok()) return submit.status();
    rows[0].add(*submit / static_cast<double>(count_));
    const Result<double> status = status_read_ns();
    if (!status.ok()) return status.status();
    rows[1].add(*status);
    if (rows.size() > 2) rows[2].add(*submit / 1e6);
    return {};
  }

  Result<uint64_t> verify(Bench& bench) override {
    uint64_t verified = 0;
    TE_RETURN_IF_ERROR(link_.verify(bench, "main", 0, 1, count_ * kBlock, &verified));
    return verified;
  }

  void finish(Bench& bench) override { link_.close(bench); }

 private:
  // Of one task after the other, in a batch that is done.
  Result<double> status_read_ns() {
    constexpr uint64_t kReads = 1'000'000;
    Engine& engine = link_.engine();
    const Result<BatchId> batch = engine.allocate_batch(count_);
    if (!batch.ok()) return batch.status();
    TE_RETURN_IF_ERROR(engine.submit(*batch, requests_));
    TE_RETURN_IF_ERROR(engine.wait(*batch));
    uint64_t completed = 0;
    const Clock::time_point begin = Clock::now();
    for (uint64_t i = 0, task = 0; i < kReads; ++i) {
      const Result<TransferStatus> status = engine.status(*batch, task);
      completed += status.ok() && status->state == TaskState::kCompleted ? 1 : 0;
      task = task + 1 == count_ ? 0 : task + 1;
    }
    const Clock::duration time = Clock::now() - begin;
    if (completed != kReads) return Status(Code::kInternal, "a task of a done batch is not done");
    TE_RETURN_IF_ERROR(engine.free_batch(*batch));
    return ns(time) / static_cast<double>(kReads);
  }

  const uint64_t count_;
  Link link_;
  std::vector<TransferRequest> requests_;
};

// The layout of a KV cache: in each of 61 layers the same blocks, of which none adjoin, in one
// list.
class SubmittingList : public Experiment {
 public:
  static constexpr uint64_t kLayers = 61;
  static constexpr uint64_t kBlocks = 1'000;  // of each layer
  static constexpr uint64_t kBlock = 1 << 10;

  std::vector<Row> rows() const override {
    const std::string what = "submit of a list of 61 x 1,000 blocks of 1 KiB";
    return {{what, "ms", "", Bar::value_at_most(1)},
            {what + ", prepared", "ms", "", Bar::value_at_most(1)}};
  }

  Status prepare(Bench& bench) override {
    TE_RETURN_IF_ERROR(link_.open(bench, "tcp", Opcode::kWrite));
    for (uint64_t layer = 0; layer < kLayers; ++layer) {
      const uint64_t offset = layer * kBlocks * kBlock;
      regions_.push_back({bench.buffers.main.data() + offset, offset, kBlock});
    }
    // Neighbours would be merged.
    for (uint64_t i = 0; i < kBlocks; ++i) blocks_.push_back(i * 7 % kBlocks);
    const Result<PreparedList> prepared = link_.engine().prepare(list());
    if (!prepared.ok()) return prepared.status();
    prepared_ = *prepared;
    return time_submit(list()).status();
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    const auto measure = [this, &bench](const auto& what, Row& row) -> Status {
      std::vector<double> times;
      const Clock::time_point end = bench.window_end();
      do {
        const Result<Clock::duration> time = time_submit(what);
        if (!time.ok()) return time.status();
        times.push_back(ms_count(*time));
      } while (Clock::now() < end);
      row.add(summarize(std::move(times)).median);
      return {};
    };
    TE_RETURN_IF_ERROR(measure(list(), rows[0]));
    return measure(prepared_, rows[1]);
  }

  Result<uint64_t> verify(Bench& bench) override {
    uint64_t verified = 0;
    TE_RETURN_IF_ERROR(link_.verify(bench, "main", 0, 1, kLayers * kBlocks * kBlock, &verified));
    return verified;
  }

  void finish(Bench& bench) override { link_.close(bench); }

 private:
  BlockList list() const { return {Opcode::kWrite, link_.segment(), regions_, blocks_, blocks_}; }
  template <typename List>
  Result<Clock::duration> time_submit(const List& what) {
    Engine& engine = link_.engine();
    const Result<BatchId> batch = engine.allocate_batch(1);
    if (!batch.ok()) return batch.status();
    const Clock::time_point begin = Clock::now();
    TE_RETURN_IF_ERROR(engine.submit_list(*batch, what));
    const Clock::duration result = Clock::now() - begin;
    TE_RETURN_IF_ERROR(engine.wait(*batch));
    TE_RETURN_IF_ERROR(batch_end(engine, *batch, 1));
    TE_RETURN_IF_ERROR(engine.free_batch(*batch));
    return result;
  }

  Link link_;
  std::vector<BlockRegion> regions_;
  std::vector<uint64_t> blocks_;
  PreparedList prepared_;
};

// 100,000 small buffers, registered in one call; then submissions that find one each time among
// them, against submissions that need to find only one at all.
class Registering : public Experiment {
 public:
  static constexpr uint64_t kCount = 100'000;
  static constexpr uint64_t kBytes = 64;  // of a buffer: together they stay in the cache
  static constexpr uint64_t kRequests = 1'000;

  std::vector<Row> rows() const override {
    return {{"register 100,000 buffers in one call", "s", "", Bar::value_at_most(0.5)},
            {"finding a buffer among 100,000", "ns", "", Bar::value_at_most(200)}};
  }

  Status prepare(Bench& bench) override {
    TE_RETURN_IF_ERROR(link_.open(bench, "tcp", Opcode::kWrite));
    TE_RETURN_IF_ERROR(link_.engine().unregister_memory(bench.buffers.main.data()));
    std::mt19937_64 random(bench.next_seed());
    for (uint64_t i = 0; i < kCount; ++i) {
      std::byte* const buffer = bench.buffers.main.data() + i * kBytes;
      buffers_.push_back({buffer, kBytes});
      addresses_.push_back(buffer);
      all_.push_back({Opcode::kWrite, buffer, link_.segment(), i * kBytes, kBytes});
    }
    for (uint64_t i = 0; i < kRequests; ++i) {
      same_.push_back(all_[0]);
      scattered_.push_back(all_[random() % kCount]);
    }
    return {};
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    Engine& engine = link_.engine();
    const Clock::time_point begin = Clock::now();
    TE_RETURN_IF_ERROR(engine.register_memory_batch(buffers_));
    rows[0].add(seconds(Clock::now() - begin));
    TE_RETURN_IF_ERROR(time_submit(engine, all_).status());
    const Result<double> same = median_submit_ns(engine, same_, bench.window_end());
    if (!same.ok()) return same.status();
    const Result<double> scattered = median_submit_ns(engine, scattered_, bench.window_end());
    if (!scattered.ok()) return scattered.status();
    rows[1].add(std::max(0.0, *scattered - *same) / static_cast<double>(kRequests));
    return engine.unregister_memory_batch(addresses_);
  }

  Result<uint64_t> verify(Bench& bench) override {
    uint64_t verified = 0;
    TE_RETURN_IF_ERROR(link_.verify(bench, "main", 0, 1, kCount * kBytes, &verified));
    return verified;
  }

  void finish(Bench& bench) override { link_.close(bench); }

 private:
  Link link_;
  std::vector<BufferEntry> buffers_;
  std::vector<void*> addresses_;
  std::vector<TransferRequest> all_;
  std::vector<TransferRequest> same_;
  std::vector<TransferRequest> scattered_;
};

// From nothing to what transfers need: an engine, a segment.
class Starting : public Experiment {
 public:
  static constexpr size_t kSegments = 32;
  static constexpr uint64_t kBlock = 4 << 10;

  std::vector<Row> rows() const override {
    return {{"create an engine until it serves", "ms", "", Bar::value_at_most(20)},
            {"open a segment, p50", "ms", "", Bar::value_at_most(1)}};
  }

  Status prepare(Bench& bench) override { return link_.open(bench, "tcp", Opcode::kWrite); }

  Status round(Bench& bench, std::span<Row> rows) override {
    const Result<double> created_ms = time_create(bench);
    if (!created_ms.ok()) return created_ms.status();
    rows[0].add(*created_ms);

    TE_RETURN_IF_ERROR(bench.peer.ask("end_engines").status());
    const Result<Words> names = bench.peer.ask(fmt::format("serve tcp {}", kSegments));
    if (!names.ok()) return names.status();
    std::vector<double> open_ms;
    for (size_t i = 0; i < kSegments; ++i) {
      Engine& engine = link_.engine();
      const Clock::time_point begin = Clock::now();
      const Result<SegmentId> segment = engine.open_segment((*names)[i]);
      open_ms.push_back(ms_count(Clock::now() - begin));
      if (!segment.ok()) return segment.status();
      Mover mover(engine, *segment, {Opcode::kWrite, kBlock},
                  stripe(bench.buffers.main_bytes(), i, kSegments), 0);
      TE_RETURN_IF_ERROR(mover.step());
      TE_RETURN_IF_ERROR(engine.close_segment(*segment));
      TE_RETURN_IF_ERROR(link_.verify(bench, "main", i, kSegments, kBlock, &verified_));
    }
    rows[1].add(summarize(std::move(open_ms)).median);
    return {};
  }

  Result<uint64_t> verify(Bench&) override { return verified_; }

  void finish(Bench& bench) override { link_.close(bench); }

 private:
  // Until another engine could open it.
  Result<double> time_create(Bench& bench) {
    const Clock::time_point begin = Clock::now();
    const Result<std::unique_ptr<Engine>> engine = make_engine("tcp");
    if (!engine.ok()) return engine.status();
    const tool::MappedMemory& memory = bench.buffers.limit;
    TE_RETURN_IF_ERROR((*engine)->register_memory(memory.data(), memory.size()));
    const Result<SegmentId> opened = link_.engine().open_segment((*engine)->local_endpoint());
    const double result = ms_count(Clock::now() - begin);
    if (!opened.ok()) return opened.status();
    TE_RETURN_IF_ERROR(link_.engine().close_segment(*opened));
    return result;
  }

  Link link_;
  uint64_t verified_ = 0;
};

// The first write to an engine after a warm-up, against those that follow it.
class FirstTransfer : public Experiment {
 public:
  static constexpr size_t kSegments = 32;
  static constexpr size_t kLater = 30;
  static constexpr uint64_t kBlock = 4 << 10;

  // `allocated`: into memory that the peer's engines allocated.
  FirstTransfer(std::string name, std::string transport, bool allocated)
      : name_(std::move(name)), transport_(std::move(transport)), allocated_(allocated) {}

  std::vector<Row> rows() const override {
    return {{fmt::format("first {} of 4 KiB after a warm-up, p50", name_), "us", "a later one, p50",
             Bar::ratio_at_most(1.5)}};
  }

  Status prepare(Bench& bench) override { return link_.open(bench, transport_, Opcode::kWrite); }

  Status round(Bench& bench, std::span<Row> rows) override {
    TE_RETURN_IF_ERROR(bench.peer.ask("end_engines").status());
    const Result<Words> names = bench.peer.ask(
        fmt::format("{} {} {}", allocated_ ? "allocate" : "serve", transport_, kSegments));
    if (!names.ok()) return names.status();
    std::vector<double> first_us, later_us;
    for (size_t i = 0; i < kSegments; ++i) {
      Engine& engine = link_.engine();
      const Result<SegmentId> segment = engine.open_segment((*names)[i]);
      if (!segment.ok()) return segment.status();
      Mover mover(engine, *segment, {Opcode::kWrite, kBlock},
                  stripe(bench.buffers.main_bytes(), i, kSegments), 0);
      TE_RETURN_IF_ERROR(engine.warmup_segment((*names)[i]));
      for (size_t k = 0; k <= kLater; ++k) {
        const Clock::time_point before = Clock::now();
        TE_RETURN_IF_ERROR(mover.step());
        (k == 0 ? first_us : later_us).push_back(ns(Clock::now() - before) / 1e3);
      }
      TE_RETURN_IF_ERROR(engine.close_segment(*segment));
      TE_RETURN_IF_ERROR(link_.verify(bench, allocated_ ? "allocated" : "main", i, kSegments,
                                      (kLater + 1) * kBlock, &verified_));
    }
    rows[0].add(summarize(std::move(first_us)).median, summarize(std::move(later_us)).median);
    return {};
  }

  Result<uint64_t> verify(Bench&) override { return verified_; }

  void finish(Bench& bench) override { link_.close(bench); }

 private:
  const std::string name_;
  const std::string transport_;
  const bool allocated_;
  Link link_;
  uint64_t verified_ = 0;
};

// The same without an engine, which shows what a first one has to take: a copy from where this
// process was not lately into memory that is there, but was not looked at, against those that
// follow it.
class FirstCopy : public Experiment {
 public:
  std::vector<Row> rows() const override {
    return {
        {"first memcpy of 4 KiB into other memory, p50", "us", "a later one, p50", Bar::none()}};
  }

  Status prepare(Bench& bench) override {
    seed_ = bench.next_seed();
    tool::fill_pattern(seed_, 0, bench.buffers.main_bytes());
    return {};
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    std::vector<double> first_us, later_us;
    for (size_t i = 0; i < FirstTransfer::kSegments; ++i) {
      const std::span<std::byte> source =
          stripe(bench.buffers.main_bytes(), i, FirstTransfer::kSegments);
      const Result<tool::MappedMemory> target = tool::MappedMemory::allocate(source.size());
      if (!target.ok()) return target.status();
      for (size_t k = 0; k <= FirstTransfer::kLater; ++k) {
        const size_t at = k * FirstTransfer::kBlock;
        const Clock::time_point before = Clock::now();
        std::memcpy(target->data() + at, source.data() + at, FirstTransfer::kBlock);
        (k == 0 ? first_us : later_us).push_back(ns(Clock::now() - before) / 1e3);
      }
      const size_t copied = (FirstTransfer::kLater + 1) * FirstTransfer::kBlock;
      const auto position = static_cast<uint64_t>(source.data() - bench.buffers.main.data());
      TE_RETURN_IF_ERROR(expect_pattern(seed_, position, {target->data(), copied}));
      verified_ += copied;
    }
    rows[0].add(summarize(std::move(first_us)).median, summarize(std::move(later_us)).median);
    return {};
  }

  Result<uint64_t> verify(Bench&) override { return verified_; }

 private:
  uint64_t seed_ = 0;
  uint64_t verified_ = 0;
};

}  // namespace

void add_engine(Experiments& experiments) {
  for (const uint64_t count : {uint64_t{1'000}, uint64_t{10'000}, Submitting::kMany}) {
    experiments.push_back(std::make_unique<Submitting>(count));
  }
  experiments.push_back(std::make_unique<SubmittingList>());
  experiments.push_back(std::make_unique<Registering>());
  experiments.push_back(std::make_unique<Starting>());
  experiments.push_back(std::make_unique<FirstTransfer>("TCP write", "tcp", false));
  experiments.push_back(std::make_unique<FirstTransfer>("same-host write", "shm", false));
  experiments.push_back(
      std::make_unique<FirstTransfer>("same-host write (allocated)", "shm", true));
  experiments.push_back(std::make_unique<FirstCopy>());
}

}  // namespace te::bench
