// `te bench target`: registers memory and serves it until it is told to stop.
//
// Threads: the main thread enters; the engine serves with its own.
#include <fmt/core.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench.h"
#include "mapped_memory.h"
#include "size_text.h"
#include "stop_signals.h"

namespace te::tool {
namespace {

using Clock = std::chrono::steady_clock;

// The directory's address without its password: it may end up in a log.
std::string without_password(const std::string& url) {
  const size_t scheme = url.find("://");
  const size_t at = url.rfind('@');
  if (scheme == std::string::npos || at == std::string::npos || at < scheme) return url;
  return url.substr(0, scheme) + "://:PASSWORD" + url.substr(at);
}

std::string initiator_command(const TargetArguments& arguments, const std::string& segment) {
  std::vector<std::string> words = {"te", "bench", "initiator", "--segment", segment};
  if (!arguments.engine.peer_to_peer()) {
    words.insert(words.end(), {"--metadata", without_password(arguments.engine.metadata)});
  }
  for (const std::string& protocol : arguments.engine.protocols) {
    words.insert(words.end(), {"--protocol", protocol});
  }
  return shell_line(words);
}

Status announce(const TargetArguments& arguments, const Engine& engine) {
  const std::string segment = segment_name(arguments.engine, engine);
  const std::string command = initiator_command(arguments, segment);
  std::vector<std::string> transports;
  for (const TransportInfo& transport : engine.transports()) {
    if (transport.installed) transports.push_back(transport.name);
  }
  if (arguments.json) {
    const nlohmann::ordered_json line = {
        {"segment", segment},
        {"endpoint", engine.local_endpoint()},
        {"metadata", without_password(arguments.engine.metadata)},
        {"buffers", arguments.buffers},
        {"buffer_bytes", arguments.buffer_size},
        {"transports", transports},
        {"command", command},
    };
    return print(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
  std::string list;
  for (const std::string& transport : transports) list += (list.empty() ? "" : ", ") + transport;
  const std::string served =
      fmt::format("{} {} of {}", arguments.buffers, arguments.buffers == 1 ? "buffer" : "buffers",
                  size_text(arguments.buffer_size));
  return print(
      fmt::format("segment     {}\nserves      {} over {}\ninitiator   {}\nCtrl-C ends it.\n",
                  segment, served, list, command));
}

// Until a stop signal or the end of --duration.
void serve(uint64_t duration_ms) {
  const Clock::time_point end = Clock::now() + std::chrono::milliseconds(duration_ms);
  while (stop_signal() == 0) {
    int timeout_ms = -1;
    if (duration_ms != 0) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
      if (left <= 0) return;
      timeout_ms = static_cast<int>(std::min<int64_t>(left, 3'600'000));
    }
    pollfd entry{stop_signal_fd(), POLLIN, 0};
    poll(&entry, 1, timeout_ms);
  }
}

// As MappedMemory::allocate() of each.
Status check_total(const TargetArguments& arguments) {
  const uint64_t present = present_memory();
  if (arguments.buffers <= std::max<uint64_t>(present / arguments.buffer_size, 1)) return {};
  return Status(
      Code::kResource,
      fmt::format("{} buffers of {} are more than this machine's memory of {}: give fewer "
                  "--buffers, or a smaller --buffer-size",
                  arguments.buffers, size_text(arguments.buffer_size), bytes_text(present)));
}

int run_target(const TargetArguments& arguments) {
  catch_stop_signals();
  if (const Status fits = check_total(arguments); !fits.ok()) return fail(fits);
  // Before the engine, so that it goes after it.
  std::vector<BenchMemory> buffers;
  const Result<std::unique_ptr<Engine>> engine = make_engine(arguments.engine, "te-bench-target");
  if (!engine.ok()) return fail(engine.status());
  for (uint64_t i = 0; i < arguments.buffers; ++i) {
    Result<BenchMemory> memory = BenchMemory::allocate(arguments.memory, arguments.buffer_size);
    if (memory.code() == Code::kCancelled) return kExitOk;
    if (!memory.ok()) return fail(memory.status());
    buffers.push_back(memory.take());
    const Status registered =
        (*engine)->register_memory(buffers.back().data(), buffers.back().size());
    if (!registered.ok()) return fail(registered.with_context("cannot register a buffer"));
  }
  if (const Status announced = announce(arguments, **engine); !announced.ok()) {
    return fail(announced);
  }
  serve(arguments.duration_ms);
  return kExitOk;
}

}  // namespace

void add_bench_target(CLI::App& bench, Action& action) {
  auto arguments = std::make_shared<TargetArguments>();
  CLI::App* const app =
      bench.add_subcommand("target", "Serve memory for initiators; print the name to use");
  add_engine_options(*app, arguments->engine);
  add_listen_options(*app, arguments->engine);
  app->add_option("--buffers", arguments->buffers, "Buffers to register")
      ->transform(whole_number_between(1, 65'536))
      ->type_name("N")
      ->capture_default_str();
  app->add_option("--buffer-size", arguments->buffer_size, "Size of each buffer, such as 1G")
      ->transform(size_between(1, uint64_t{1} << 46))
      ->type_name("SIZE")
      ->default_str("256M");
  add_memory_option(*app, arguments->memory);
  app->add_option("--duration", arguments->duration_ms,
                  "Stop after this time; default: at SIGINT or SIGTERM")
      ->transform(duration_ms())
      ->type_name("TIME");
  app->add_flag("--json", arguments->json,
                "Print one line of JSON: segment, endpoint, buffers, command");
  app->footer(
      "Exit code 0 after a stop signal or --duration.\n"
      "Examples:\n"
      "  te bench target\n"
      "  te bench target --port 12345 --buffer-size 1G --protocol tcp\n"
      "  te bench target --metadata etcd://10.0.0.9:2379 --name node-7\n"
      "  te bench target --json --duration 60s");
  app->callback([arguments, &action] { action = [arguments] { return run_target(*arguments); }; });
}

}  // namespace te::tool
