// The time of one small TCP transfer, polled for or waited for, against one round trip of plain
// sockets. Threads: the main thread.
#include <fmt/core.h>

#include "experiment.h"
#include "limits/ping_pong.h"
#include "link.h"

namespace te::bench {
namespace {

constexpr uint64_t kBlock = 4 << 10;
constexpr uint64_t kSmallMessage = 16;  // of a request, or an acknowledgement

class Latency : public LinkExperiment {
 public:
  Latency(Opcode opcode, Waiting waiting) : LinkExperiment({opcode, kBlock, 1, waiting}) {}

  std::vector<Row> rows() const override {
    const bool polling = load_.waiting == Waiting::kPoll;
    const std::string what =
        fmt::format("one TCP {} of 4 KiB, {}", verb(load_.opcode), polling ? "polling" : "waiting");
    Row median(what + ", p50", "us",
               polling ? "round trip of spinning sockets" : "round trip of blocking sockets",
               Bar::ratio_at_most(1.2));
    Row tail(what + ", p99", "us", "its p50", polling ? Bar::ratio_at_most(3) : Bar::none());
    return {median, tail};
  }

  Status prepare(Bench& bench) override {
    TE_RETURN_IF_ERROR(open(bench, "tcp"));
    tool::Histogram ignored;
    TE_RETURN_IF_ERROR(run_limit(bench, ignored));
    return mover_->run(bench.window_end());
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    tool::Histogram limit, value;
    TE_RETURN_IF_ERROR(run_limit(bench, limit));
    TE_RETURN_IF_ERROR(mover_->run(bench.window_end(), value));
    rows[0].add(percentile_us(value, 50), percentile_us(limit, 50));
    rows[1].add(percentile_us(value, 99), percentile_us(value, 50));
    rows[0].value_ns.merge(value);
    rows[0].limit_ns.merge(limit);
    return {};
  }

  Result<uint64_t> verify(Bench& bench) override {
    Result<uint64_t> verified = LinkExperiment::verify(bench);
    if (!verified.ok()) return verified.status();
    TE_RETURN_IF_ERROR(link_.verify(bench, "limit", 0, 1, limit_rounds_ * kBlock, &*verified));
    return verified;
  }

 private:
  Status run_limit(Bench& bench, tool::Histogram& round_trip_ns) {
    PingPong shape{load_.waiting == Waiting::kPoll, kBlock, kSmallMessage};
    if (load_.opcode == Opcode::kRead) std::swap(shape.there, shape.back);
    const Result<uint64_t> port = bench.peer.ask_number(
        fmt::format("ping_pong {} {} {}", shape.spin ? "spin" : "block", shape.there, shape.back));
    if (!port.ok()) return port.status();
    const Result<std::vector<Socket>> sockets =
        connect_to_loopback(static_cast<uint16_t>(*port), 1);
    if (!sockets.ok()) return sockets.status();
    const Exchanged exchanged =
        send_pings(sockets->front(), shape, bench.buffers.main_bytes(), bench.buffers.limit_bytes(),
                   bench.settings.window, round_trip_ns);
    if (!exchanged.ok) return Status(Code::kUnavailable, "the ping-pong's connection broke");
    limit_rounds_ = std::max(limit_rounds_, exchanged.rounds);
    return {};
  }

  uint64_t limit_rounds_ = 0;  // of the longest run: each begins at the buffer's first block
};

}  // namespace

void add_tcp_latency(Experiments& experiments) {
  for (const Waiting waiting : {Waiting::kPoll, Waiting::kSleep}) {
    for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
      experiments.push_back(std::make_unique<Latency>(opcode, waiting));
    }
  }
}

}  // namespace te::bench
