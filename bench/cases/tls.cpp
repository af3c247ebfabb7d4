// What TLS costs: throughput against what sockets and the cipher take on the same cores, and the
// time of a small write and of a handshake beside those without TLS. Threads: the main thread.
#include <fmt/core.h>

#include "experiment.h"
#include "keys.h"
#include "limits/ciphers.h"
#include "limits/handshakes.h"
#include "limits/stream_pair.h"
#include "link.h"
#include "usage_meter.h"

namespace te::bench {
namespace {

constexpr size_t kConnections = 2;
constexpr uint64_t kLimitBlock = 1 << 20;
constexpr uint64_t kSmallBlock = 4 << 10;

// Each byte goes through the sockets, is encrypted once and decrypted once, and both processes run
// on the same cores. So a byte takes at least the sum of these times.
class TlsThroughput : public LinkExperiment {
 public:
  explicit TlsThroughput(Opcode opcode) : LinkExperiment({opcode, 1 << 20, 16}) {}

  std::vector<Row> rows() const override {
    return {{fmt::format("TCP {} with TLS, {} x {}", verb(load_.opcode),
                         block_text(load_.block_size), load_.batch_size),
             "GB/s", "sockets, and AES-128-GCM twice, on the same cores",
             Bar::ratio_at_least(0.9)}};
  }

  Status prepare(Bench& bench) override {
    TE_RETURN_IF_ERROR(keys_.make());
    TE_RETURN_IF_ERROR(open(bench, keys_.transport()));
    TE_RETURN_IF_ERROR(limit_.open(bench, kConnections));
    const Result<uint64_t> warm = limit_.run(bench, load_.opcode, kLimitBlock);
    if (!warm.ok()) return warm.status();
    return mover_->run(bench.window_end());
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    const Result<Usage> sockets =
        measure(bench, [&] { return limit_.run(bench, load_.opcode, kLimitBlock); });
    if (!sockets.ok()) return sockets.status();
    const Result<double> cipher = aes_gcm_gb_per_s(bench.settings.window);
    if (!cipher.ok()) return cipher.status();
    const Result<double> moved = gb_per_s(*mover_, bench.window_end());
    if (!moved.ok()) return moved.status();
    rows[0].add(*moved, 1 / (1 / sockets->gb_per_s() + 2 / *cipher));
    return {};
  }

  void finish(Bench& bench) override {
    limit_.close(bench);
    LinkExperiment::finish(bench);
  }

 private:
  Keys keys_;
  StreamPair limit_;
};

class TlsLatency : public Experiment {
 public:
  std::vector<Row> rows() const override {
    return {{"one TCP write of 4 KiB with TLS, polling, p50, beyond that without", "us", "",
             Bar::value_at_most(8)}};
  }

  Status prepare(Bench& bench) override {
    TE_RETURN_IF_ERROR(keys_.make());
    TE_RETURN_IF_ERROR(plain_.open(bench, "tcp", Opcode::kWrite, 0, 2));
    TE_RETURN_IF_ERROR(tls_.open(bench, keys_.transport(), Opcode::kWrite, 1, 2));
    plain_mover_ = plain_.mover(bench, kLoad);
    tls_mover_ = tls_.mover(bench, kLoad);
    TE_RETURN_IF_ERROR(plain_mover_->run(bench.window_end()));
    return tls_mover_->run(bench.window_end());
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    tool::Histogram without, with;
    TE_RETURN_IF_ERROR(plain_mover_->run(bench.window_end(), without));
    TE_RETURN_IF_ERROR(tls_mover_->run(bench.window_end(), with));
    rows[0].add(percentile_us(with, 50) - percentile_us(without, 50));
    rows[0].value_ns.merge(with);
    return {};
  }

  Result<uint64_t> verify(Bench& bench) override {
    uint64_t verified = 0;
    TE_RETURN_IF_ERROR(plain_.verify(bench, "main", 0, 1, plain_mover_->moved_bytes(), &verified));
    TE_RETURN_IF_ERROR(tls_.verify(bench, "main", 0, 1, tls_mover_->moved_bytes(), &verified));
    return verified;
  }

  void finish(Bench& bench) override {
    plain_mover_.reset();
    tls_mover_.reset();
    plain_.close(bench);
    tls_.close(bench);
  }

 private:
  static constexpr Load kLoad{Opcode::kWrite, kSmallBlock, 1, Waiting::kPoll};

  Keys keys_;
  Link plain_, tls_;
  std::unique_ptr<Mover> plain_mover_, tls_mover_;
};

// Of a control connection, with certificates: by how much longer a segment takes to open.
class TlsHandshake : public Experiment {
 public:
  static constexpr size_t kSegments = 32;

  std::vector<Row> rows() const override {
    return {{"handshake of TLS, p50", "ms", "", Bar::value_at_most(2)},
            {"handshake of TLS, beside OpenSSL alone", "ms",
             "both ends of OpenSSL's handshake, one thread"}};
  }

  Status prepare(Bench& bench) override {
    TE_RETURN_IF_ERROR(keys_.make());
    TE_RETURN_IF_ERROR(plain_.open(bench, "tcp", Opcode::kWrite, 0, 2));
    return tls_.open(bench, keys_.transport(), Opcode::kWrite, 1, 2);
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    TE_RETURN_IF_ERROR(bench.peer.ask("end_engines").status());
    const Result<double> without = open_ms(bench, plain_.engine(), "tcp");
    if (!without.ok()) return without.status();
    const Result<double> with = open_ms(bench, tls_.engine(), keys_.transport());
    if (!with.ok()) return with.status();
    const Result<double> limit =
        openssl_handshake_ms(keys_.authority(), keys_.certificate(), keys_.key());
    if (!limit.ok()) return limit.status();
    rows[0].add(*with - *without);
    rows[1].add(*with - *without, *limit);
    return {};
  }

  // What is measured is that the segments open.
  Result<uint64_t> verify(Bench&) override { return uint64_t{0}; }

  void finish(Bench& bench) override {
    plain_.close(bench);
    tls_.close(bench);
  }

 private:
  // The median.
  static Result<double> open_ms(Bench& bench, Engine& engine, const std::string& transport) {
    const Result<Words> names = bench.peer.ask(fmt::format("serve {} {}", transport, kSegments));
    if (!names.ok()) return names.status();
    std::vector<double> times;
    for (const std::string& name : *names) {
      const Clock::time_point begin = Clock::now();
      const Result<SegmentId> segment = engine.open_segment(name);
      times.push_back(ms_count(Clock::now() - begin));
      if (!segment.ok()) return segment.status();
      TE_RETURN_IF_ERROR(engine.close_segment(*segment));
    }
    return summarize(std::move(times)).median;
  }

  Keys keys_;
  Link plain_, tls_;
};

}  // namespace

void add_tls(Experiments& experiments) {
  experiments.push_back(std::make_unique<TlsThroughput>(Opcode::kWrite));
  experiments.push_back(std::make_unique<TlsThroughput>(Opcode::kRead));
  experiments.push_back(std::make_unique<TlsLatency>());
  experiments.push_back(std::make_unique<TlsHandshake>());
}

}  // namespace te::bench
