// `te bench initiator`: measures transfers to and from a segment that a target serves.
//
// Threads: the main thread enters; run_case() has threads of its own.
#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <utility>

#include "bench.h"
#include "bench_report.h"
#include "size_text.h"
#include "stop_signals.h"

namespace te::tool {
namespace {

// Where --json goes. Opened before the measurement: a wrong path must not cost a run.
class JsonOutput {
 public:
  explicit JsonOutput(const std::string& path) : path_(path) {
    if (to_file()) file_.open(path, std::ios::trunc);
  }
  Status status() const {
    if (!to_file() || file_.good()) return {};
    return Status(Code::kResource,
                  fmt::format("--json: cannot write '{}': {}", path_, std::strerror(errno)));
  }
  bool to_stdout() const { return path_ == "-"; }
  Status write(const nlohmann::ordered_json& json) {
    if (path_.empty()) return {};
    const std::string text =
        json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    if (to_stdout()) return print(text);
    file_ << text << std::flush;
    return status();
  }

 private:
  bool to_file() const { return !path_.empty() && path_ != "-"; }

  const std::string path_;
  std::ofstream file_;
};

// One write and one read case for each block size, or what --operation says.
std::vector<CaseSpec> plan_cases(const LoadArguments& arguments) {
  uint64_t seed = arguments.seed;
  while (seed == 0) seed = (uint64_t{std::random_device{}()} << 32) | std::random_device{}();
  std::vector<Opcode> opcodes;
  if (arguments.operation != "read") opcodes.push_back(Opcode::kWrite);
  if (arguments.operation != "write") opcodes.push_back(Opcode::kRead);
  std::vector<CaseSpec> cases;
  for (const uint64_t block_size : arguments.block_sizes) {
    for (const Opcode opcode : opcodes) {
      CaseSpec spec;
      spec.opcode = opcode;
      spec.block_size = block_size;
      spec.batch_size = arguments.batch_size;
      spec.threads = arguments.threads;
      spec.duration_ms = arguments.duration_ms;
      spec.wait = arguments.wait == "poll" ? Wait::kPoll : Wait::kSleep;
      spec.verify = arguments.verify;
      spec.seed = seed + cases.size();
      cases.push_back(spec);
    }
  }
  return cases;
}

Result<SegmentBuffer> largest_buffer(Engine& engine, SegmentId segment, const std::string& name) {
  const Result<SegmentInfo> info = engine.describe_segment(segment);
  if (!info.ok()) return info.status();
  SegmentBuffer largest;
  for (const SegmentBuffer& buffer : info->buffers) {
    if (buffer.remote_accessible && buffer.length > largest.length) largest = buffer;
  }
  if (largest.length > 0) return largest;
  return Status(Code::kNotFound,
                fmt::format("segment '{}' offers no memory: its process must register a buffer "
                            "(`te bench target` does)",
                            name));
}

Status check_room(const LoadArguments& arguments, uint64_t room) {
  for (const uint64_t block_size : arguments.block_sizes) {
    if (block_size <= room / arguments.threads) continue;
    return Status(
        Code::kInvalidArgument,
        fmt::format("--threads {} with --block-size {} needs more than the {} of memory that both "
                    "sides have: give less, or a larger --buffer-size here and at the target",
                    arguments.threads, size_text(block_size), size_text(room)));
  }
  return {};
}

// Fills report.cases; an error when there is nothing to measure with.
Status measure(const LoadArguments& arguments, Engine& engine, BenchMemory& memory,
               Report& report) {
  const Result<SegmentId> segment = engine.open_segment(arguments.segment);
  if (!segment.ok()) return segment.status();
  const Result<SegmentBuffer> remote = largest_buffer(engine, *segment, arguments.segment);
  if (!remote.ok()) return remote.status();
  const uint64_t room = std::min(arguments.buffer_size, remote->length);
  TE_RETURN_IF_ERROR(check_room(arguments, room));
  Result<BenchMemory> allocated = BenchMemory::allocate(arguments.memory, room);
  if (!allocated.ok()) return allocated.status();
  memory = allocated.take();
  constexpr bool kRemoteAccessible = false;  // nobody has business in an initiator's memory
  TE_RETURN_IF_ERROR(engine.register_memory(memory.data(), memory.size(), "*", kRemoteAccessible));
  TE_RETURN_IF_ERROR(engine.warmup_segment(arguments.segment));

  const Region region{&memory, 0, *segment, remote->offset, room};
  ProgressLine line;
  for (CaseSpec spec : plan_cases(arguments)) {
    if (stop_signal() != 0) break;
    spec.batch_size = std::min(spec.batch_size, part_bytes(spec, room) / spec.block_size);
    CaseResult result = run_case(engine, spec, region, [&](const Progress& progress) {
      line.show(case_label(spec), progress, spec.duration_ms);
    });
    line.clear();
    report.cases.push_back(std::move(result));
    if (report.cases.back().errors != 0) break;
  }
  for (const PathInfo& path : engine.paths()) {
    if (path.completed_bytes != 0 || path.failed_slices != 0) report.paths.push_back(path);
  }
  return {};
}

// Everything else as the library writes it.
void without_warnings(LogLevel level, std::string_view message) {
  constexpr std::string_view kNames[] = {"error", "warning", "info", "debug"};
  if (level == LogLevel::kWarning) return;
  fmt::print(stderr, "transfer_engine {}: {}\n", kNames[static_cast<size_t>(level)], message);
}

int run_initiator(const LoadArguments& arguments) {
  catch_stop_signals();
  return run_load(arguments);
}

}  // namespace

int run_load(const LoadArguments& arguments) {
  JsonOutput json(arguments.json);
  if (!json.status().ok()) return fail(json.status());
  BenchMemory memory;  // before the engine, so that it goes after it
  if (arguments.warnings_given) set_log_hook(without_warnings);
  const Result<std::unique_ptr<Engine>> engine =
      make_engine(arguments.engine, "te-bench-initiator");
  set_log_hook(nullptr);
  if (!engine.ok()) return fail(engine.status());

  Report report;
  report.segment = arguments.segment;
  report.batch_size = arguments.batch_size;
  const Status measured = measure(arguments, **engine, memory, report);
  const bool stopped = !measured.ok() && stop_signal() != 0;  // before there was a case
  if (!measured.ok() && !stopped) {
    report.error = measured.to_string();
  } else if (!report.cases.empty() && report.cases.back().errors != 0) {
    const CaseResult& last = report.cases.back();
    report.error = fmt::format("{}: {} {}, the first: {}", case_label(last.spec), last.errors,
                               last.errors == 1 ? "error" : "errors", last.first_error);
  }
  const std::string text = report_text(report);
  if (json.to_stdout()) {
    std::fputs(text.c_str(), stderr);
  } else if (const Status printed = print(text); !printed.ok()) {
    return fail(printed);
  }
  if (const Status written = json.write(report_json(report)); !written.ok()) return fail(written);
  if (!report.error.empty()) return fail(report.error);
  return stop_signal() != 0 ? 128 + stop_signal() : kExitOk;
}

void add_memory_option(CLI::App& app, std::string& memory) {
  app.add_option("--memory", memory, "Which memory: cpu, or cuda:N for that of GPU N")
      ->check(check_memory, "", "memory")
      ->type_name("cpu|cuda:N")
      ->capture_default_str();
}

void add_load_options(CLI::App& app, LoadArguments& arguments) {
  app.add_option("--operation", arguments.operation, "What to measure; both: write, then read")
      ->check(CLI::IsMember({"read", "write", "both"}))
      ->capture_default_str();
  app.add_option("--block-size", arguments.block_sizes,
                 "Bytes of one request, such as 4K or 1MiB; several separated by commas are "
                 "measured one after another")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->transform(size_between(1, uint64_t{1} << 40))
      ->type_name("SIZE,...")
      ->default_str("64K");
  app.add_option("--batch-size", arguments.batch_size, "Requests submitted and waited for together")
      ->transform(whole_number_between(1, 65'536))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--threads", arguments.threads, "Threads that submit, each with its own memory")
      ->transform(whole_number_between(1, 1'024))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--duration", arguments.duration_ms, "Time of each case, such as 500ms or 10s")
      ->transform(duration_ms())
      ->type_name("TIME")
      ->default_str("5s");
  app.add_option("--buffer-size", arguments.buffer_size,
                 "Local memory to use; no more than the target's largest buffer is")
      ->transform(size_between(1, uint64_t{1} << 46))
      ->type_name("SIZE")
      ->default_str("256M");
  add_memory_option(app, arguments.memory);
  app.add_flag("--verify", arguments.verify,
               "Move a known pattern, compare every byte, and try ranges at odd offsets");
  app.add_option("--seed", arguments.seed, "Seed of the pattern; 0: a random one")
      ->transform(whole_number_between(0, UINT64_MAX))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--wait", arguments.wait, "Wait for a batch by polling its status or by sleeping")
      ->check(CLI::IsMember({"poll", "sleep"}))
      ->capture_default_str();
  app.add_option("--json", arguments.json, "Write the figures as JSON to this file; - for stdout")
      ->type_name("FILE");
}

void add_bench_initiator(CLI::App& bench, Action& action) {
  auto arguments = std::make_shared<LoadArguments>();
  CLI::App* const app =
      bench.add_subcommand("initiator", "Measure reads and writes of a target's memory");
  app->add_option("--segment", arguments->segment, "Name that the target printed")
      ->required()
      ->type_name("NAME");
  add_engine_options(*app, arguments->engine);
  add_load_options(*app, *arguments);
  app->footer(
      "Exit code 0; 1 after an error or a wrong byte; 130 when Ctrl-C ended it early.\n"
      "Examples:\n"
      "  te bench initiator --segment 10.0.0.1:12345\n"
      "  te bench initiator --segment 10.0.0.1:12345 --block-size 4K,64K,1M --operation read\n"
      "  te bench initiator --segment node-7 --metadata etcd://10.0.0.9:2379 --verify\n"
      "  te bench initiator --segment 10.0.0.1:12345 --threads 8 --wait poll --json -");
  app->callback(
      [arguments, &action] { action = [arguments] { return run_initiator(*arguments); }; });
}

}  // namespace te::tool
