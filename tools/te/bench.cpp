// `te bench` itself: only the parent of its three subcommands. Only the main thread enters.
#include "bench.h"

namespace te::tool {

void add_bench(CLI::App& app, Action& action) {
  CLI::App* const bench =
      app.add_subcommand("bench", "Measure transfers between two processes, and verify every byte");
  bench->require_subcommand(1);
  bench->footer(
      "Examples:\n"
      "  te bench local                                  both sides on this machine, no set-up\n"
      "  te bench target                                 on one machine: prints the line for the "
      "other\n"
      "  te bench initiator --segment 10.0.0.1:12345     on the other machine");
  add_bench_target(*bench, action);
  add_bench_initiator(*bench, action);
  add_bench_local(*bench, action);
}

}  // namespace te::tool
