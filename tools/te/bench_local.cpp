// `te bench local`: a target in a child process and an initiator in this one, with nothing to set
// up. Only the main thread enters.
#include <memory>
#include <nlohmann/json.hpp>

#include "bench.h"
#include "child_process.h"
#include "stop_signals.h"

namespace te::tool {
namespace {

constexpr std::chrono::seconds kStartTime{20};
constexpr uint64_t kFilledPerS = 128 << 20;  // by a machine that is busy

// Waits until the target serves `bytes`; returns the name of its segment.
Result<std::string> segment_of(ChildProcess& target, uint64_t bytes) {
  const Result<std::string> line =
      target.read_line(kStartTime + std::chrono::seconds(bytes / kFilledPerS));
  if (!line.ok()) return line.status().with_context("the target did not start");
  const nlohmann::json announced = nlohmann::json::parse(*line, nullptr, false);
  const auto segment = announced.is_object() ? announced.find("segment") : announced.end();
  if (segment == announced.end() || !segment->is_string()) {
    return Status(Code::kProtocol, "the target announced no segment but: " + *line);
  }
  return segment->get<std::string>();
}

int run_local(LoadArguments arguments) {
  catch_stop_signals();
  std::vector<std::string> words = {"bench",
                                    "target",
                                    "--json",
                                    "--host",
                                    arguments.engine.host,
                                    "--buffer-size",
                                    std::to_string(arguments.buffer_size),
                                    "--memory",
                                    arguments.memory};
  for (const std::string& protocol : arguments.engine.protocols) {
    words.insert(words.end(), {"--protocol", protocol});
  }
  Result<ChildProcess> target = ChildProcess::start_self(words);
  if (!target.ok()) return fail(target.status());
  const Result<std::string> segment = segment_of(*target, arguments.buffer_size);
  if (stop_signal() != 0) return 128 + stop_signal();
  if (segment.code() == Code::kUnavailable && target->has_failed()) return kExitFailed;
  if (!segment.ok()) return fail(segment.status());
  arguments.segment = *segment;
  arguments.warnings_given = true;
  return run_load(arguments);
}

}  // namespace

void add_bench_local(CLI::App& bench, Action& action) {
  auto arguments = std::make_shared<LoadArguments>();
  arguments->engine.host = "127.0.0.1";
  CLI::App* const app = bench.add_subcommand(
      "local", "Both sides on this machine: starts a target, measures, stops it");
  app->add_option("--host", arguments->engine.host, "Address of this machine that both sides use")
      ->type_name("ADDRESS")
      ->capture_default_str();
  app->add_option("--protocol,--transport", arguments->engine.protocols,
                  "Transport to install on both sides: tcp, shm, rdma, efa or fabric:PROVIDER; may "
                  "be repeated. Default: tcp and shm")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME");
  add_load_options(*app, *arguments);
  app->footer(
      "Exit code 0; 1 after an error or a wrong byte; 130 when Ctrl-C ended it early.\n"
      "Examples:\n"
      "  te bench local\n"
      "  te bench local --verify --duration 1 --block-size 4K,64K,1M,16M --operation both\n"
      "  te bench local --protocol tcp --threads 4 --json figures.json");
  app->callback([arguments, &action] { action = [arguments] { return run_local(*arguments); }; });
}

}  // namespace te::tool
