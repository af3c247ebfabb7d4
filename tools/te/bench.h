// The `te bench` commands: what they are told, and what they share.
//
// Threads: the main thread enters; run_case() has threads of its own.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "arguments.h"
#include "bench_case.h"
#include "command.h"

namespace te::tool {

struct TargetArguments {
  EngineArguments engine;
  uint64_t buffers = 1;
  uint64_t buffer_size = 256 << 20;
  std::string memory = "cpu";
  uint64_t duration_ms = 0;  // 0: until a signal
  bool json = false;
};

struct LoadArguments {
  EngineArguments engine;
  std::string segment;
  // A target of the same machine and settings has given the warnings that an engine starts with.
  bool warnings_given = false;
  std::string operation = "both";
  std::vector<uint64_t> block_sizes = {64 << 10};
  uint64_t batch_size = 16;
  uint64_t threads = 1;
  uint64_t duration_ms = 5'000;  // of each case
  uint64_t buffer_size = 256 << 20;
  std::string memory = "cpu";
  bool verify = false;
  uint64_t seed = 0;  // 0: a random one
  std::string wait = "sleep";
  std::string json;  // a file, "-" for stdout, empty for none
};

void add_bench_target(CLI::App& bench, Action& action);
void add_bench_initiator(CLI::App& bench, Action& action);
void add_bench_local(CLI::App& bench, Action& action);

void add_memory_option(CLI::App& app, std::string& memory);
// What to measure and how to report it: everything but --segment and the engine's own options.
void add_load_options(CLI::App& app, LoadArguments& arguments);
// Measures against `arguments.segment` and reports; returns the exit code. catch_stop_signals() was
// called before.
int run_load(const LoadArguments& arguments);

}  // namespace te::tool
