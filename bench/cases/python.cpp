// What the Python package adds to the calls of the C++ API. Threads: the main thread.
#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "experiment.h"
#include "limits/programs.h"
#include "link.h"

namespace te::bench {
namespace {

class PythonCalls : public Experiment {
 public:
  static constexpr uint64_t kBlock = 4 << 10;

  // ./dev bench installs the package where a row with "Python" in its name is wanted.
  std::vector<Row> rows() const override {
    return {
        {"same-host write of 4 KiB, what Python adds to C++, p50", "us", "", Bar::value_at_most(1)},
        {"submit of 10,000 addresses of numpy from Python, each", "ns", "",
         Bar::value_at_most(120)},
        {"submit of a list of 61 x 1,000 blocks of 1 KiB from Python", "ms", "",
         Bar::value_at_most(1)}};
  }

  Status prepare(Bench& bench) override {
    if (bench.settings.python.empty()) {
      return Status(Code::kUnsupported, "it takes --python, with the package installed");
    }
    return link_.open(bench, "shm", Opcode::kWrite);
  }

  Status round(Bench& bench, std::span<Row> rows) override {
    TE_RETURN_IF_ERROR(bench.peer.ask("end_engines").status());
    const Result<Words> names = bench.peer.ask("serve shm 1");
    if (!names.ok()) return names.status();
    const Result<double> ours = write_us(bench, names->at(0));
    if (!ours.ok()) return ours.status();
    const Result<std::string> text = output_of(
        fmt::format("'{}' -B '{}/python_costs.py' '{}' {}", bench.settings.python, TE_BENCH_SCRIPTS,
                    names->at(0), std::chrono::duration<double>(bench.settings.window).count()));
    if (!text.ok()) return text.status();
    const auto times = nlohmann::json::parse(*text, nullptr, false);
    if (!times.is_object() || !times.contains("write_us")) return not_understood("python_costs.py");
    rows[0].add(times["write_us"].get<double>() - *ours);
    rows[1].add(times["address_ns"].get<double>());
    rows[2].add(times["blocks_ms"].get<double>());
    return {};
  }

  // The script compares what it moved.
  Result<uint64_t> verify(Bench&) override { return 0; }

  void finish(Bench& bench) override { link_.close(bench); }

 private:
  Result<double> write_us(Bench& bench, const std::string& name) {
    Engine& engine = link_.engine();
    const Result<SegmentId> segment = engine.open_segment(name);
    if (!segment.ok()) return segment.status();
    Mover mover(engine, *segment, {Opcode::kWrite, kBlock},
                bench.buffers.main_bytes().first(kBlock), 0);
    tool::Histogram times;
    TE_RETURN_IF_ERROR(mover.run(bench.window_end(), times));
    TE_RETURN_IF_ERROR(engine.close_segment(*segment));
    return percentile_us(times, 50);
  }

  Link link_;
};

}  // namespace

void add_python(Experiments& experiments) {
  experiments.push_back(std::make_unique<PythonCalls>());
}

}  // namespace te::bench
