// A program whose threads spin on the status of each task, as the benchmark of the Rust crate does,
// against the same one with wait(). Two processes, each in a network namespace of its own, are
// joined by a pair of virtual devices. The namespaces end with the processes.
//
// Threads: the main thread; those of the program are in its process.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>

#include "experiment.h"
#include "limits/programs.h"
#include "link.h"

namespace te::bench {
namespace {

constexpr size_t kThreads = 4;
constexpr uint64_t kBlock = 4 << 10;
constexpr uint64_t kBatch = 128;
constexpr uint64_t kMostMemory = 64 << 20;  // larger than the caches of this many threads
// A namespace has no other network, so any address will do.
constexpr const char* kInitiator = "10.213.9.1";
constexpr const char* kTarget = "10.213.9.2";

class Spinning : public Experiment {
 public:
  explicit Spinning(Opcode opcode) : opcode_(opcode) {}

  std::vector<Row> rows() const override {
    return {{fmt::format("TCP {} {} x {}, {} threads that spin on status, between namespaces",
                         verb(opcode_), block_text(kBlock), kBatch, kThreads),
             "GB/s", "the same with wait()", Bar::ratio_at_least(0.8)}};
  }

  Status prepare(Bench& bench) override {
    memory_bytes_ = std::min<uint64_t>(bench.buffers.main.size(), kMostMemory);
    Result<Peer> target = Peer::start(memory_bytes_);
    if (!target.ok()) return target.status();
    target_ = std::make_unique<Peer>(target.take());
    Result<Peer> initiator = Peer::start(memory_bytes_);
    if (!initiator.ok()) return initiator.status();
    initiator_ = std::make_unique<Peer>(initiator.take());
    TE_RETURN_IF_ERROR(join_networks());
    const Result<Words> name = target_->ask("serve tcp 1");
    if (!name.ok()) return name.status();
    seed_ = bench.next_seed();
    Peer& source = opcode_ == Opcode::kWrite ? *initiator_ : *target_;
    TE_RETURN_IF_ERROR(source.ask(fmt::format("fill main {} 0 {}", seed_, memory_bytes_)).status());
    TE_RETURN_IF_ERROR(initiator_->ask("open " + name->front()).status());
    return measure(bench, "wait").status();
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    const Result<double> waiting = measure(bench, "wait");
    if (!waiting.ok()) return waiting.status();
    const Result<double> spinning = measure(bench, "spin");
    if (!spinning.ok()) return spinning.status();
    rows[0].add(*spinning, *waiting);
    return {};
  }

  Result<uint64_t> verify(Bench&) override {
    Peer& sink = opcode_ == Opcode::kWrite ? *target_ : *initiator_;
    const uint64_t part = memory_bytes_ / kThreads;
    const uint64_t length = covered(moved_bytes_, part / kBlock * kBlock);
    for (size_t i = 0; i < kThreads; ++i) {
      TE_RETURN_IF_ERROR(
          sink.ask(fmt::format("verify main {} {} {}", seed_, i * part, length)).status());
    }
    return kThreads * length;
  }

  void finish(Bench&) override {
    initiator_.reset();
    target_.reset();
  }

 private:
  // A link between two namespaces, one of each process.
  Status join_networks() {
    if (!installed("ip")) {
      return Status(Code::kUnsupported, "network namespaces take ip (Debian: iproute2)");
    }
    const Result<uint64_t> here = initiator_->ask_number("leave_network");
    if (!here.ok()) return here.status();
    const Result<uint64_t> there = target_->ask_number("leave_network");
    if (!there.ok()) return there.status();
    const Result<std::string> said = output_of(fmt::format(
        "ip link add te0 netns {} type veth peer name te0 netns {} 2>&1", *here, *there));
    if (!said.ok()) return said.status();
    if (!said->empty()) return Status(Code::kUnsupported, "no virtual devices: " + *said);
    TE_RETURN_IF_ERROR(initiator_->ask(fmt::format("join_network te0 {}", kInitiator)).status());
    return target_->ask(fmt::format("join_network te0 {}", kTarget)).status();
  }

  // In 10^9 bytes per second.
  Result<double> measure(Bench& bench, const char* how) {
    const Result<Words> answer =
        initiator_->ask(fmt::format("move {} {} {} {} {} {}", verb(opcode_), how, kThreads, kBlock,
                                    kBatch, bench.settings.window.count()));
    if (!answer.ok()) return answer.status();
    moved_bytes_ =
        std::max<uint64_t>(moved_bytes_, std::strtoull((*answer)[1].c_str(), nullptr, 10));
    return std::strtod(answer->front().c_str(), nullptr);
  }

  const Opcode opcode_;
  std::unique_ptr<Peer> initiator_;
  std::unique_ptr<Peer> target_;
  uint64_t memory_bytes_ = 0;
  uint64_t moved_bytes_ = 0;  // by each thread in one go, at least
  uint64_t seed_ = 0;
};

}  // namespace

void add_spinning(Experiments& experiments) {
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    experiments.push_back(std::make_unique<Spinning>(opcode));
  }
}

}  // namespace te::bench
