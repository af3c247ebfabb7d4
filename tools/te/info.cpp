// `te info`: version, transports, libraries, addresses, configuration and topology, as found on
// this machine.
//
// Threads: the main thread enters; the engine that is asked has its own.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "arguments.h"
#include "command.h"
#include "gpus.h"
#include "machine_info.h"
#include "size_text.h"
#include "table.h"
#include "topology_view.h"

namespace te::tool {
namespace {

using Json = nlohmann::ordered_json;

struct InfoArguments {
  EngineArguments engine;
  bool json = false;
  bool topology = false;
};

Json gpus_json() {
  const Gpus found = gpus();
  Json rows = Json::array();
  for (const GpuInfo& gpu : found.found) {
    rows.push_back({{"location", gpu.location},
                    {"model", gpu.model},
                    {"pci", gpu.pci},
                    {"memory_bytes", gpu.memory_bytes},
                    {"rdma", gpu.rdma},
                    {"shm", "direct to GPUs and allocated memory, else staged"},
                    {"efa", "direct if its provider registers it, else staged"},
                    {"other_transports", "staged"}});
  }
  return {{"driver", found.driver}, {"found", rows}, {"reason", found.reason}};
}

// The text form is made from the JSON, so the two never disagree.
Json collect(const InfoArguments& arguments) {
  Json info = machine_info(make_engine(arguments.engine, "te-info"));
  info["gpus"] = gpus_json();
  return info;
}

std::string text_of(const Json& row, const char* key) {
  const auto value = row.find(key);
  if (value == row.end()) return {};
  return value->is_string() ? value->get<std::string>() : value->dump();
}

std::string yes_or_no(const Json& row, const char* key, const char* yes, const char* no) {
  return row.value(key, false) ? yes : no;
}

std::string section(const char* title, const Table& table) {
  std::string text = fmt::format("\n{}\n", title);
  const std::string body = table.to_string();
  for (size_t begin = 0; begin < body.size();) {
    const size_t end = body.find('\n', begin);
    text += "  " + body.substr(begin, end - begin + 1);
    begin = end + 1;
  }
  return text;
}

std::string as_text(const Json& info) {
  std::string text = fmt::format("te {}\n", text_of(info, "version"));
  if (info.contains("endpoint")) {
    text +=
        fmt::format("Peers would reach an engine started now at {}\n", text_of(info, "endpoint"));
  }
  if (info.contains("transports")) {
    Table transports({{"name"}, {"on this machine"}, {"installed"}, {"detail"}});
    for (const Json& row : info["transports"]) {
      transports.add_row({text_of(row, "name"), yes_or_no(row, "available", "present", "absent"),
                          yes_or_no(row, "installed", "yes", "no"), text_of(row, "detail")});
    }
    text += section("Transports", transports);
  }
  Table libraries({{"name"}, {"used for"}, {"found"}, {"detail"}});
  for (const Json& row : info["libraries"]) {
    libraries.add_row({text_of(row, "name"), text_of(row, "used_for"),
                       yes_or_no(row, "found", "yes", "no"), text_of(row, "detail")});
  }
  text += section("Libraries", libraries);
  const Json& gpus = info["gpus"];
  Table gpu_table({{"location"},
                   {"model"},
                   {"PCI"},
                   {"memory"},
                   {"rdma"},
                   {"shm"},
                   {"efa"},
                   {"other transports"}});
  for (const Json& row : gpus["found"]) {
    gpu_table.add_row({text_of(row, "location"), text_of(row, "model"), text_of(row, "pci"),
                       bytes_text(row.value("memory_bytes", uint64_t{0})), text_of(row, "rdma"),
                       text_of(row, "shm"), text_of(row, "efa"), text_of(row, "other_transports")});
  }
  text += gpus["found"].empty()
              ? fmt::format("\nGPUs\n  none: {}\n", text_of(gpus, "reason"))
              : section(fmt::format("GPUs ({})", text_of(gpus, "driver")).c_str(), gpu_table);
  Table addresses({{"interface"}, {"address"}, {"state"}});
  for (const Json& row : info["addresses"]) {
    addresses.add_row(
        {text_of(row, "interface"), text_of(row, "address"), yes_or_no(row, "up", "up", "down")});
  }
  text += section("Addresses", addresses);
  if (info.contains("configuration")) {
    Table settings({{"setting"}, {"value"}, {"default"}, {"unit"}, {"from"}, {"what it is"}});
    for (const Json& row : info["configuration"]) {
      settings.add_row({text_of(row, "name"), text_of(row, "value"), text_of(row, "default"),
                        text_of(row, "unit"), text_of(row, "origin"), text_of(row, "help")});
    }
    text +=
        section("Configuration (environment: TRANSFER_ENGINE_ and the name in capitals)", settings);
  }
  return text;
}

int run_topology(const InfoArguments& arguments) {
  const Result<std::unique_ptr<Engine>> engine = make_engine(arguments.engine, "te-info");
  if (!engine.ok()) return fail(engine.status());
  const Result<std::string> text =
      arguments.json ? (*engine)->nic_priority_matrix() : (*engine)->topology();
  if (!text.ok()) return fail(text.status());
  const Status printed =
      print(arguments.json ? *text + "\n" : topology_view(Json::parse(*text, nullptr, false)));
  return printed.ok() ? kExitOk : fail(printed);
}

int run_info(const InfoArguments& arguments) {
  if (arguments.topology) return run_topology(arguments);
  const Json info = collect(arguments);
  const std::string text = arguments.json
                               ? info.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"
                               : as_text(info);
  if (const Status printed = print(text); !printed.ok()) return fail(printed);
  const std::string error = text_of(info, "error");
  return error.empty() ? kExitOk : fail(error);
}

}  // namespace

void add_info(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<InfoArguments>();
  CLI::App* const info = app.add_subcommand(
      "info", "Show version, transports, libraries, addresses and configuration");
  add_engine_options(*info, arguments->engine);
  info->add_flag("--json", arguments->json, "Print JSON instead of text");
  info->add_flag("--topology", arguments->topology,
                 "Show memory nodes, GPUs and RDMA devices, and their distances; with --json the "
                 "NIC priority matrix, as transports accept it");
  info->footer(
      "Needs no server. Exit code 1 when an engine cannot be created here; prints the reason.\n"
      "Examples:\n"
      "  te info\n"
      "  te info --json\n"
      "  te info --topology\n"
      "  HWLOC_XMLFILE=machine.xml te info --topology --json    of a machine that lstopo recorded\n"
      "  TE_TCP_CONNECTIONS=4 te info          shows the setting and that it is from the "
      "environment");
  info->callback([arguments, &action] { action = [arguments] { return run_info(*arguments); }; });
}

}  // namespace te::tool
