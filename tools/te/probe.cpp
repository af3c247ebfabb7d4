// `te probe`: whether a segment can be reached, how fast its control channel answers, what it
// offers.
//
// Threads: the main thread enters; the engine that asks has its own.
#include <fmt/core.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>

#include "arguments.h"
#include "command.h"
#include "size_text.h"
#include "table.h"

namespace te::tool {
namespace {

using Json = nlohmann::ordered_json;

std::string_view remote_access(Access access) {
  constexpr std::string_view kNames[] = {"no", "read, write", "read", "write", "read, write"};
  return kNames[static_cast<size_t>(access)];
}

// The names that Python has, too. Newer peers may have kinds that have none here.
std::string kind_of(const SegmentBuffer& buffer) {
  constexpr std::string_view kNames[] = {"host", "cuda", "file"};
  const auto number = static_cast<size_t>(buffer.kind);
  return number < std::size(kNames) ? std::string(kNames[number]) : std::to_string(number);
}

struct ProbeArguments {
  EngineArguments engine;
  std::string segment;
  uint64_t count = 10;
  bool json = false;
};

struct Findings {
  ProbeResult probe;  // round trips in ascending order
  SegmentInfo segment;
  std::vector<PathInfo> paths;
};

Result<Findings> find_out(const ProbeArguments& arguments, Engine& engine) {
  Findings findings;
  Result<ProbeResult> probe = engine.probe(arguments.segment, arguments.count);
  if (!probe.ok()) return probe.status();
  findings.probe = probe.take();
  std::sort(findings.probe.round_trips_ns.begin(), findings.probe.round_trips_ns.end());
  const Result<SegmentId> segment = engine.open_segment(arguments.segment);
  if (!segment.ok()) return segment.status();
  Result<SegmentInfo> info = engine.describe_segment(*segment);
  if (!info.ok()) return info.status();
  findings.segment = info.take();
  // Without this the ways would be listed as idle, whether they work or not.
  TE_RETURN_IF_ERROR(engine.warmup_segment(arguments.segment));
  findings.paths = engine.paths();
  return findings;
}

Json as_json(const ProbeArguments& arguments, const Findings& findings) {
  const auto& trips = findings.probe.round_trips_ns;
  Json json = {{"segment", arguments.segment},
               {"host", findings.segment.host},
               {"port", findings.segment.port},
               {"instance", findings.segment.instance},
               {"generation", findings.segment.generation},
               {"connect_us", findings.probe.connect_us},
               {"round_trip_ns", nullptr}};
  if (!trips.empty()) {
    json["round_trip_ns"] = {{"count", trips.size()},
                             {"min", trips.front()},
                             {"p50", trips[(trips.size() - 1) / 2]},
                             {"max", trips.back()}};
  }
  json["buffers"] = Json::array();
  for (const SegmentBuffer& buffer : findings.segment.buffers) {
    json["buffers"].push_back({{"offset", buffer.offset},
                               {"length", buffer.length},
                               {"kind", kind_of(buffer)},
                               {"location", buffer.location},
                               {"remote_accessible", buffer.remote_accessible},
                               {"access", remote_access(buffer.access)}});
  }
  json["paths"] = Json::array();
  for (const PathInfo& path : findings.paths) {
    json["paths"].push_back({{"transport", path.transport},
                             {"local_device", path.local_device},
                             {"remote_device", path.remote_device},
                             {"remote_address", path.remote_address},
                             {"encryption", path.encryption},
                             {"state", path.state},
                             {"last_error", path.last_error}});
  }
  return json;
}

std::string as_text(const ProbeArguments& arguments, const Findings& findings) {
  const SegmentInfo& segment = findings.segment;
  std::string text = fmt::format(
      "segment      {}\nreached at   {}:{}, instance {:x}, generation {}\n"
      "connect      {} us\n",
      arguments.segment, segment.host, segment.port, segment.instance, segment.generation,
      findings.probe.connect_us);
  const auto& trips = findings.probe.round_trips_ns;
  if (!trips.empty()) {
    const auto us = [](uint64_t ns) { return static_cast<double>(ns) / 1e3; };
    text += fmt::format("round trip   min {:.1f}, p50 {:.1f}, max {:.1f} us ({} measured)\n",
                        us(trips.front()), us(trips[(trips.size() - 1) / 2]), us(trips.back()),
                        trips.size());
  }
  if (segment.buffers.empty()) text += "buffers      none registered\n";
  Table buffers({{"offset", Align::kRight},
                 {"length", Align::kRight},
                 {"size", Align::kRight},
                 {"memory"},
                 {"location"},
                 {"remote access"}});
  for (const SegmentBuffer& buffer : segment.buffers) {
    buffers.add_row({std::to_string(buffer.offset), std::to_string(buffer.length),
                     size_text(buffer.length), kind_of(buffer), buffer.location,
                     std::string(remote_access(buffer.access))});
  }
  if (buffers.rows() != 0) text += "\n" + buffers.to_string();
  Table paths({{"transport"},
               {"local"},
               {"remote"},
               {"address"},
               {"encryption"},
               {"state"},
               {"last error"}});
  for (const PathInfo& path : findings.paths) {
    paths.add_row({path.transport, path.local_device, path.remote_device, path.remote_address,
                   path.encryption, path.state, path.last_error});
  }
  if (paths.rows() != 0) text += "\n" + paths.to_string();
  return text;
}

int run_probe(const ProbeArguments& arguments) {
  const Result<std::unique_ptr<Engine>> engine = make_engine(arguments.engine, "te-probe");
  if (!engine.ok()) return fail(engine.status());
  const Result<Findings> findings = find_out(arguments, **engine);
  if (!findings.ok()) {
    return fail(findings.status().with_context("segment '" + arguments.segment + "'"));
  }
  const std::string text =
      arguments.json
          ? as_json(arguments, *findings).dump(2, ' ', false, Json::error_handler_t::replace) + "\n"
          : as_text(arguments, *findings);
  const Status printed = print(text);
  return printed.ok() ? kExitOk : fail(printed);
}

}  // namespace

void add_probe(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<ProbeArguments>();
  CLI::App* const probe =
      app.add_subcommand("probe", "Reach a segment: round trips, buffers, paths");
  probe
      ->add_option("segment", arguments->segment,
                   "Name of the segment; with P2PHANDSHAKE host:port")
      ->required()
      ->type_name("SEGMENT");
  add_engine_options(*probe, arguments->engine);
  probe->add_option("--count", arguments->count, "Round trips to measure")
      ->transform(whole_number_between(1, 1'000'000))
      ->type_name("N")
      ->capture_default_str();
  probe->add_flag("--json", arguments->json, "Print JSON instead of text");
  probe->footer(
      "Exit code 1 when the segment cannot be resolved, reached or described.\n"
      "Examples:\n"
      "  te probe 10.0.0.1:12345\n"
      "  te probe node-7 --metadata etcd://10.0.0.9:2379\n"
      "  te probe 10.0.0.1:12345 --count 100 --json");
  probe->callback([arguments, &action] { action = [arguments] { return run_probe(*arguments); }; });
}

}  // namespace te::tool
