// `te top`: what the links of a running engine move, again and again.
//
// Threads: the main thread enters; the engine that asks has its own.
#include <fmt/core.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <memory>

#include "arguments.h"
#include "command.h"
#include "size_text.h"
#include "stop_signals.h"
#include "table.h"
#include "top.h"

namespace te::tool {
namespace {

using Clock = std::chrono::steady_clock;

struct TopArguments {
  EngineArguments engine;
  std::string segment;
  uint64_t interval_ms = 1'000;
  uint64_t count = 0;
};

std::string name_of(const PathInfo& path) {
  return path.segment + '\n' + path.transport + '\n' + path.local_device + '\n' +
         path.remote_device + '\n' + path.remote_address;
}

std::string rate_text(uint64_t bytes, double seconds) {
  const double per_second = seconds > 0 ? static_cast<double>(bytes) / seconds : 0;
  if (per_second >= 1e9) return fmt::format("{:.2f} GB/s", per_second / 1e9);
  if (per_second >= 1e6) return fmt::format("{:.1f} MB/s", per_second / 1e6);
  if (per_second >= 1e3) return fmt::format("{:.1f} kB/s", per_second / 1e3);
  return fmt::format("{:.0f} B/s", per_second);
}

// False: a signal came.
bool pause(uint64_t ms) {
  pollfd entry{stop_signal_fd(), POLLIN, 0};
  ::poll(&entry, 1, static_cast<int>(ms));
  return stop_signal() == 0;
}

int run_top(const TopArguments& arguments) {
  catch_stop_signals();
  const Result<std::unique_ptr<Engine>> engine = make_engine(arguments.engine, "te-top");
  if (!engine.ok()) return fail(engine.status());
  const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  std::vector<PathInfo> before;
  Clock::time_point asked_before{};
  for (uint64_t shown = 0; arguments.count == 0 || shown < arguments.count;) {
    Result<std::vector<PathInfo>> now = (*engine)->paths_of(arguments.segment);
    if (!now.ok()) return fail(now.status().with_context("segment '" + arguments.segment + "'"));
    const Clock::time_point asked = Clock::now();
    if (asked_before != Clock::time_point{}) {
      const double seconds = std::chrono::duration<double>(asked - asked_before).count();
      const std::string text = top_text(arguments.segment, before, *now, seconds);
      const Status printed = print((terminal ? "\033[H\033[J" : "") + text);
      if (!printed.ok()) return fail(printed);
      ++shown;
      if (shown == arguments.count) break;
    }
    before = now.take();
    asked_before = asked;
    if (!pause(arguments.interval_ms)) break;
  }
  return kExitOk;
}

}  // namespace

std::string top_text(const std::string& segment, const std::vector<PathInfo>& before,
                     const std::vector<PathInfo>& now, double seconds) {
  std::map<std::string, const PathInfo*> earlier;
  for (const PathInfo& path : before) earlier[name_of(path)] = &path;
  Table table({{"segment"},
               {"transport"},
               {"local"},
               {"remote"},
               {"state"},
               {"bytes/s", Align::kRight},
               {"in flight", Align::kRight},
               {"failed", Align::kRight},
               {"last error"}});
  uint64_t all = 0, inflight = 0;
  for (const PathInfo& path : now) {
    const auto found = earlier.find(name_of(path));
    // One that is new, or was made anew, counts from zero.
    uint64_t moved = path.completed_bytes;
    if (found != earlier.end() && found->second->completed_bytes <= moved) {
      moved -= found->second->completed_bytes;
    }
    all += moved;
    inflight += path.inflight_bytes;
    table.add_row({path.segment, path.transport, path.local_device,
                   path.remote_device.empty() ? path.remote_address : path.remote_device,
                   path.state, rate_text(moved, seconds), size_text(path.inflight_bytes),
                   std::to_string(path.failed_slices), path.last_error});
  }
  return fmt::format("{}: {} links, {}, {} in flight\n\n{}", segment, now.size(),
                     rate_text(all, seconds), size_text(inflight),
                     now.empty() ? "No segment is open there.\n" : table.to_string());
}

void add_top(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<TopArguments>();
  CLI::App* const top = app.add_subcommand("top", "Watch the paths of a running engine");
  top->add_option("segment", arguments->segment,
                  "The engine's segment; with P2PHANDSHAKE host:port")
      ->required()
      ->type_name("SEGMENT");
  add_engine_options(*top, arguments->engine);
  top->add_option("--interval", arguments->interval_ms,
                  "Time between two updates, such as 500ms or 2s")
      ->transform(duration_ms())
      ->type_name("TIME")
      ->default_str("1s");
  top->add_option("--count", arguments->count, "Number of updates; 0: until a signal")
      ->transform(whole_number_between(0, 1'000'000))
      ->type_name("N")
      ->capture_default_str();
  top->footer(
      "Shows the paths from the engine behind the segment to others: what it reads and writes\n"
      "elsewhere, not what others read and write there.\n"
      "Examples:\n"
      "  te top 10.0.0.1:12345\n"
      "  te top node-7 --metadata etcd://10.0.0.9:2379 --interval 200ms");
  top->callback([arguments, &action] { action = [arguments] { return run_top(*arguments); }; });
}

}  // namespace te::tool
