// One engine and many peers: what they cost while nothing happens, and how it shares itself among
// them. Threads: the main thread.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <thread>

#include "experiment.h"
#include "link.h"
#include "pattern.h"

namespace te::bench {
namespace {

// An engine in a process of its own, connected with 100 others.
class IdlePeers : public Experiment {
 public:
  static constexpr size_t kPeers = 100;

  std::vector<Row> rows() const override {
    return {
        {"idle engine with 100 connected peers, CPU", "% of a core", "", Bar::value_at_most(0.2)},
        {"memory per connected peer", "KiB", "", Bar::value_at_most(256)}};
  }

  Status prepare(Bench& bench) override {
    const Result<Words> names = bench.peer.ask(fmt::format("serve tcp {}", kPeers));
    if (!names.ok()) return names.status();
    Result<Peer> subject = Peer::start(kMoved);
    if (!subject.ok()) return subject.status();
    subject_ = std::make_unique<Peer>(subject.take());
    seed_ = bench.next_seed();
    TE_RETURN_IF_ERROR(subject_->ask(fmt::format("fill main {} 0 {}", seed_, kMoved)).status());
    const Result<uint64_t> grown =
        subject_->ask_number(fmt::format("connect tcp {}", fmt::join(*names, " ")));
    if (!grown.ok()) return grown.status();
    kib_per_peer_ = static_cast<double>(*grown) / static_cast<double>(kPeers) / 1024;
    return {};
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    const Result<uint64_t> before = subject_->ask_number("cpu_us");
    if (!before.ok()) return before.status();
    const Clock::time_point begin = Clock::now();
    std::this_thread::sleep_for(bench.settings.quick ? bench.settings.window
                                                     : std::chrono::milliseconds(3'000));
    const Result<uint64_t> after = subject_->ask_number("cpu_us");
    if (!after.ok()) return after.status();
    const double wall_us = seconds(Clock::now() - begin) * 1e6;
    rows[0].add(100 * static_cast<double>(*after - *before) / wall_us);
    rows[1].add(kib_per_peer_);
    return {};
  }

  // Each peer has the subject's buffer at the beginning of its own.
  Result<uint64_t> verify(Bench& bench) override {
    uint64_t verified = 0;
    const uint64_t part = bench.buffers.main.size() / kPeers;
    for (size_t i = 0; i < kPeers; ++i) {
      TE_RETURN_IF_ERROR(
          bench.peer.ask(fmt::format("verify main {} {} {} 0", seed_, i * part, kMoved)).status());
      verified += kMoved;
    }
    return verified;
  }

  void finish(Bench& bench) override {
    subject_.reset();
    (void)bench.peer.ask("end_engines");
  }

 private:
  static constexpr uint64_t kMoved = 64 << 10;  // to each peer, once

  std::unique_ptr<Peer> subject_;
  uint64_t seed_ = 0;
  double kib_per_peer_ = 0;
};

// One small batch per peer is always in flight, and the next one is submitted when it is done, as
// an event loop would.
class ManyPeers : public Experiment {
 public:
  static constexpr size_t kProcesses = 4;
  static constexpr size_t kEngines = 64;  // of each process
  static constexpr size_t kPeers = kProcesses * kEngines;
  static constexpr size_t kSlotsOfOne = 16;  // batches in flight while there is one peer
  static constexpr uint64_t kBlock = 64 << 10;
  static constexpr uint64_t kBatch = 4;

  std::vector<Row> rows() const override {
    return {{"TCP write 64 KiB, 256 peers at once", "GB/s", "one peer", Bar::ratio_at_least(0.8)},
            {"the slowest of 256 peers", "MB/s", "their mean", Bar::ratio_at_least(0.5)}};
  }

  Status prepare(Bench& bench) override;
  Status round(Bench& bench, std::span<Row> rows) override;
  Result<uint64_t> verify(Bench& bench) override;
  void finish(Bench&) override {
    slots_.clear();
    engine_.reset();
    processes_.clear();
  }

 private:
  // One batch in flight to one peer after the other.
  struct Slot {
    size_t peer = 0;
    BatchId batch = kInvalidBatch;
  };

  Status submit(Slot& slot);
  Status finish_slot(Slot& slot);
  // Slot i works for peer i modulo `peers`. What each peer got in one window, in bytes per second.
  Result<std::vector<double>> run(Bench& bench, size_t slots, size_t peers);

  uint64_t stripe_bytes_ = 0;  // of each peer
  std::span<std::byte> source_;
  uint64_t seed_ = 0;
  std::vector<Peer> processes_;
  std::unique_ptr<Engine> engine_;
  std::vector<SegmentId> segments_;
  std::vector<uint64_t> next_block_;   // of each peer
  std::vector<uint64_t> moved_bytes_;  // to each peer, in all
  std::vector<Slot> slots_;
  int epoll_ = -1;
};

Status ManyPeers::prepare(Bench& bench) {
  stripe_bytes_ = std::max(bench.buffers.main.size() / kPeers, kBatch * kBlock);
  seed_ = bench.next_seed();
  source_ = bench.buffers.main_bytes().first(kEngines * stripe_bytes_);
  tool::fill_pattern(seed_, 0, source_);
  Result<std::unique_ptr<Engine>> engine = make_engine("tcp");
  if (!engine.ok()) return engine.status();
  engine_ = engine.take();
  TE_RETURN_IF_ERROR(engine_->register_memory(source_.data(), source_.size()));
  segments_.clear();
  for (size_t i = 0; i < kProcesses; ++i) {
    Result<Peer> process = Peer::start(kEngines * stripe_bytes_);
    if (!process.ok()) return process.status();
    processes_.push_back(process.take());
    const Result<Words> names = processes_.back().ask(fmt::format("serve tcp {}", kEngines));
    if (!names.ok()) return names.status();
    for (const std::string& name : *names) {
      const Result<SegmentId> segment = engine_->open_segment(name);
      if (!segment.ok()) return segment.status();
      segments_.push_back(*segment);
    }
  }
  next_block_.assign(kPeers, 0);
  moved_bytes_.assign(kPeers, 0);
  return run(bench, kPeers, kPeers).status();
}

Status ManyPeers::submit(Slot& slot) {
  const uint64_t blocks = stripe_bytes_ / kBlock;
  std::array<TransferRequest, kBatch> requests;
  for (TransferRequest& request : requests) {
    const uint64_t offset = next_block_[slot.peer]++ % blocks * kBlock;
    // Engine k of every process holds stripe k of the source.
    const uint64_t from = slot.peer % kEngines * stripe_bytes_ + offset;
    request = {Opcode::kWrite, source_.data() + from, segments_[slot.peer], offset, kBlock};
  }
  const Result<BatchId> batch = engine_->allocate_batch(kBatch);
  if (!batch.ok()) return batch.status();
  slot.batch = *batch;
  TE_RETURN_IF_ERROR(engine_->submit(*batch, requests));
  const Result<int> event = engine_->event_fd(*batch);
  if (!event.ok()) return event.status();
  epoll_event wanted{};
  wanted.events = EPOLLIN;
  wanted.data.ptr = &slot;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, *event, &wanted) == 0) return {};
  return Status(Code::kResource, fmt::format("epoll_ctl: {}", std::strerror(errno)));
}

Status ManyPeers::finish_slot(Slot& slot) {
  TE_RETURN_IF_ERROR(batch_end(*engine_, slot.batch, kBatch));
  TE_RETURN_IF_ERROR(engine_->free_batch(slot.batch));
  slot.batch = kInvalidBatch;
  return {};
}

Result<std::vector<double>> ManyPeers::run(Bench& bench, size_t slots, size_t peers) {
  const struct Epoll {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    ~Epoll() { close(fd); }
  } epoll;
  epoll_ = epoll.fd;
  const std::vector<uint64_t> before = moved_bytes_;
  const Clock::time_point begin = Clock::now();
  const Clock::time_point end = bench.window_end();
  slots_.assign(slots, {});
  for (size_t i = 0; i < slots; ++i) {
    slots_[i].peer = i % peers;
    TE_RETURN_IF_ERROR(submit(slots_[i]));
  }
  for (size_t in_flight = slots; in_flight > 0;) {
    std::array<epoll_event, 64> events;
    const int count = epoll_wait(epoll_, events.data(), events.size(), 60'000);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return Status(Code::kTimeout, "no batch was done for a minute");
    for (int i = 0; i < count; ++i) {
      Slot& slot = *static_cast<Slot*>(events[static_cast<size_t>(i)].data.ptr);
      TE_RETURN_IF_ERROR(finish_slot(slot));
      moved_bytes_[slot.peer] += kBatch * kBlock;
      if (Clock::now() < end) {
        TE_RETURN_IF_ERROR(submit(slot));
      } else {
        --in_flight;
      }
    }
  }
  const double wall_s = seconds(Clock::now() - begin);
  std::vector<double> rates;
  for (size_t i = 0; i < peers; ++i) {
    rates.push_back(static_cast<double>(moved_bytes_[i] - before[i]) / wall_s);
  }
  return rates;
}

Status ManyPeers::round(Bench& bench, std::span<Row> rows) {
  const Result<std::vector<double>> one = run(bench, kSlotsOfOne, 1);
  if (!one.ok()) return one.status();
  const Result<std::vector<double>> all = run(bench, kPeers, kPeers);
  if (!all.ok()) return all.status();
  const double total = std::accumulate(all->begin(), all->end(), 0.0);
  const double slowest = *std::min_element(all->begin(), all->end());
  rows[0].add(total / 1e9, one->front() / 1e9);
  rows[1].add(slowest / 1e6, total / static_cast<double>(kPeers) / 1e6);
  return {};
}

Result<uint64_t> ManyPeers::verify(Bench&) {
  uint64_t verified = 0;
  for (size_t i = 0; i < kPeers; ++i) {
    const uint64_t offset = i % kEngines * stripe_bytes_;
    const uint64_t length = covered(moved_bytes_[i], stripe_bytes_);
    TE_RETURN_IF_ERROR(processes_[i / kEngines]
                           .ask(fmt::format("verify main {} {} {}", seed_, offset, length))
                           .status()
                           .with_context(fmt::format("peer {}", i)));
    verified += length;
  }
  return verified;
}

}  // namespace

void add_many_peers(Experiments& experiments) {
  experiments.push_back(std::make_unique<IdlePeers>());
  experiments.push_back(std::make_unique<ManyPeers>());
}

}  // namespace te::bench
