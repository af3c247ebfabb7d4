#include "bench_report.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>

#include "size_text.h"
#include "table.h"
#include "transfer_engine/engine.h"

namespace te::tool {
namespace {

constexpr double kGiga = 1e9;

double per_second(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

double cpu_seconds_per_gigabyte(const CaseResult& result) {
  return per_second(result.cpu_seconds, static_cast<double>(result.bytes) / kGiga);
}

std::string microseconds(uint64_t ns) {
  const double us = static_cast<double>(ns) / 1e3;
  return us < 100 ? fmt::format("{:.1f}", us) : fmt::format("{:.0f}", us);
}

const char* operation_name(Opcode opcode) { return opcode == Opcode::kRead ? "read" : "write"; }

std::string remote_of(const PathInfo& path) {
  return path.remote_device.empty() ? path.remote_address
                                    : path.remote_address + " " + path.remote_device;
}

}  // namespace

double gigabytes_per_second(const CaseResult& result) {
  return per_second(static_cast<double>(result.bytes) / kGiga, result.seconds);
}

std::string case_label(const CaseSpec& spec) {
  return fmt::format("{} {}", operation_name(spec.opcode), size_text(spec.block_size));
}

std::string report_text(const Report& report) {
  const auto right = [](const char* title) { return Table::Column{title, Align::kRight}; };
  Table table({{"operation"},
               right("block"),
               right("batch"),
               right("threads"),
               right("GB/s"),
               right("requests/s"),
               right("p50 us"),
               right("p99 us"),
               right("p99.9 us"),
               right("bytes"),
               right("verified"),
               right("CPU s/GB"),
               right("errors")});
  bool interrupted = false;
  bool cut = false;
  for (const CaseResult& result : report.cases) {
    const CaseSpec& spec = result.spec;
    interrupted = interrupted || result.interrupted;
    cut = cut || spec.batch_size < report.batch_size;
    table.add_row(
        {operation_name(spec.opcode), size_text(spec.block_size), std::to_string(spec.batch_size),
         std::to_string(spec.threads), fmt::format("{:.3f}", gigabytes_per_second(result)),
         fmt::format("{:.0f}", per_second(static_cast<double>(result.requests), result.seconds)),
         microseconds(result.latency_ns.percentile(50)),
         microseconds(result.latency_ns.percentile(99)),
         microseconds(result.latency_ns.percentile(99.9)), bytes_text(result.bytes),
         spec.verify ? bytes_text(result.verified_bytes) : "-",
         fmt::format("{:.3f}", cpu_seconds_per_gigabyte(result)), std::to_string(result.errors)});
  }
  std::string text;
  if (!report.cases.empty()) {
    text += table.to_string();
    text += "GB = 10^9 bytes; latencies are of a whole batch; CPU is of the initiator's process.\n";
  }
  for (const PathInfo& path : report.paths) {
    text += fmt::format("path: {} to {} moved {}", path.transport, remote_of(path),
                        bytes_text(path.completed_bytes));
    if (path.staged_bytes != 0) text += fmt::format(", {} staged", bytes_text(path.staged_bytes));
    if (path.encryption == "tls") text += " with TLS";
    if (path.failed_slices != 0) {
      text += fmt::format(", {} failures, the last: {}", path.failed_slices, path.last_error);
    }
    text += '\n';
  }
  if (cut) {
    text +=
        "Batches were cut to the blocks that fit into the memory: a larger --buffer-size, here and "
        "at the target, takes whole ones.\n";
  }
  if (interrupted) text += "Interrupted: the last case is not complete.\n";
  return text;
}

nlohmann::ordered_json report_json(const Report& report) {
  nlohmann::ordered_json cases = nlohmann::ordered_json::array();
  for (const CaseResult& result : report.cases) {
    const CaseSpec& spec = result.spec;
    const Histogram& latency = result.latency_ns;
    cases.push_back(
        {{"operation", operation_name(spec.opcode)},
         {"block_bytes", spec.block_size},
         {"batch_size", spec.batch_size},
         {"threads", spec.threads},
         {"wait", spec.wait == Wait::kPoll ? "poll" : "sleep"},
         {"seconds", result.seconds},
         {"bytes", result.bytes},
         {"requests", result.requests},
         {"gigabytes_per_second", gigabytes_per_second(result)},
         {"requests_per_second", per_second(static_cast<double>(result.requests), result.seconds)},
         {"batch_latency_ns",
          {{"count", latency.count()},
           {"min", latency.min()},
           {"p50", latency.percentile(50)},
           {"p99", latency.percentile(99)},
           {"p99_9", latency.percentile(99.9)},
           {"max", latency.max()}}},
         {"cpu_seconds", result.cpu_seconds},
         {"cpu_seconds_per_gigabyte", cpu_seconds_per_gigabyte(result)},
         {"verified", spec.verify},
         {"verified_bytes", result.verified_bytes},
         {"seed", spec.seed},
         {"errors", result.errors},
         {"first_error", result.first_error},
         {"interrupted", result.interrupted}});
  }
  nlohmann::ordered_json paths = nlohmann::ordered_json::array();
  for (const PathInfo& path : report.paths) {
    paths.push_back({{"transport", path.transport},
                     {"local_device", path.local_device},
                     {"remote_device", path.remote_device},
                     {"remote_address", path.remote_address},
                     {"encryption", path.encryption},
                     {"completed_bytes", path.completed_bytes},
                     {"staged_bytes", path.staged_bytes},
                     {"failed_slices", path.failed_slices},
                     {"last_error", path.last_error}});
  }
  return {{"version", std::string(version())},
          {"segment", report.segment},
          {"error", report.error},
          {"cases", cases},
          {"paths", paths}};
}

ProgressLine::ProgressLine() : enabled_(isatty(STDERR_FILENO) == 1) {}

void ProgressLine::show(const std::string& label, const Progress& progress, uint64_t duration_ms) {
  if (!enabled_) return;
  const bool same_case = progress.seconds > last_.seconds && progress.bytes >= last_.bytes;
  const Progress before = same_case ? last_ : Progress{};
  const double now = per_second(static_cast<double>(progress.bytes - before.bytes) / kGiga,
                                progress.seconds - before.seconds);
  std::fputs(fmt::format("\r\x1b[K{}: {:.2f} GB/s, {:.1f} of {:.1f} s", label, now,
                         progress.seconds, static_cast<double>(duration_ms) / 1e3)
                 .c_str(),
             stderr);
  std::fflush(stderr);
  last_ = progress;
  shown_ = true;
}

void ProgressLine::clear() {
  if (shown_) std::fputs("\r\x1b[K", stderr);
  shown_ = false;
  last_ = {};
}

}  // namespace te::tool
