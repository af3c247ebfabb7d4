// `te_suite`: every figure of the project against its limit, in one run. Parses the command line.
// Only the main thread enters.
#include <fmt/core.h>
#include <sys/resource.h>

#include <cstdio>
#include <exception>
#include <fstream>

#include "arguments.h"
#include "command.h"
#include "report/report.h"
#include "run.h"
#include "stop_signals.h"

namespace te::bench {
namespace {

struct Arguments {
  Settings settings;
  std::string filter;
  std::string json;
  std::string role;
  bool list = false;
};

void add_options(CLI::App& app, Arguments& arguments) {
  app.add_option("--rounds", arguments.settings.rounds, "Measurements of each case and its limit")
      ->transform(tool::whole_number_between(1, 1000))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--filter", arguments.filter, "Only the cases with a row that matches")
      ->type_name("REGEX");
  app.add_flag("--list", arguments.list, "Print the names of the rows and their bars");
  app.add_flag("--quick", arguments.settings.quick,
               "One short round on little memory: whether it works, not how fast");
  app.add_option("--json", arguments.json,
                 "Write the results as JSON, for bench/plot.py too; - is stdout")
      ->type_name("FILE")
      ->take_last();
  app.add_option("--python", arguments.settings.python,
                 "An interpreter that has the package transfer_engine, for what its calls take")
      ->type_name("PROGRAM");
  app.add_option("--role", arguments.role)->group("");
  app.add_option("--memory", arguments.settings.memory_bytes)->group("");
  app.footer(
      "Bars are judged, never enforced: the exit code is 0 also where one is missed, and 1 when\n"
      "something could not be measured or bytes were wrong.");
}

Status write_file(const std::string& path, const std::string& text) {
  if (path.empty()) return {};
  if (path == "-") return tool::print(text);
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (file) return {};
  return Status(Code::kResource, fmt::format("cannot write {}", path));
}

void list(const Experiments& experiments) {
  for (const auto& experiment : experiments) {
    for (const Row& row : experiment->rows()) {
      const std::string bar = row.bar_text();
      fmt::print("{}{}\n", row.name, bar.empty() ? "" : fmt::format("  ({})", bar));
    }
  }
}

// Hundreds of peers take more descriptors than the usual soft limit.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int run_suite(Arguments& arguments) {
  if (arguments.settings.quick) {
    arguments.settings.rounds = 1;
    arguments.settings.window = std::chrono::milliseconds(30);
    arguments.settings.memory_bytes = 32 << 20;
  }
  Result<Experiments> experiments = select(all_experiments(), arguments.filter);
  if (!experiments.ok()) {
    tool::fail(experiments.status());
    return tool::kExitUsage;
  }
  if (arguments.list) {
    list(*experiments);
    return tool::kExitOk;
  }
  tool::catch_stop_signals();
  Result<std::unique_ptr<Bench>> bench = Bench::create(arguments.settings);
  if (!bench.ok()) return tool::fail(bench.status());
  const std::vector<Row> rows = run(**bench, *experiments);
  const Machine machine = this_machine();

  std::FILE* const table_to = arguments.json == "-" ? stderr : stdout;
  for (const auto& [title, text] : facts(machine)) fmt::print(table_to, "{:8} {}\n", title, text);
  fmt::print(table_to, "\n{}", table_report(rows));
  const Status written = write_file(arguments.json, json_report(rows, machine));
  if (!written.ok()) return tool::fail(written);
  if (tool::stop_signal() != 0) return 128 + tool::stop_signal();
  for (const Row& row : rows) {
    if (!row.failed.empty()) return tool::kExitFailed;
  }
  return tool::kExitOk;
}

int start(int argc, char** argv) {
  CLI::App app("Measures the engine against its limits, in the same run", "te_suite");
  Arguments arguments;
  add_options(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? tool::kExitOk : tool::kExitUsage;
  }
  raise_descriptor_limit();
  if (arguments.role == "peer") return run_peer(arguments.settings.memory_bytes);
  return run_suite(arguments);
}

}  // namespace
}  // namespace te::bench

int main(int argc, char** argv) {
  try {
    return te::bench::start(argc, argv);
  } catch (const std::exception& error) {  // out of memory, no descriptors left
    return te::tool::fail(error.what());
  }
}
