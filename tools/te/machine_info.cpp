#include "machine_info.h"

#include <string>

#include "host_info.h"

namespace te::tool {
namespace {

using Json = nlohmann::ordered_json;

Json libraries_json(const std::string& rdma_library, const std::string& fabric_library) {
  Json rows = Json::array();
  for (const LibraryInfo& library : libraries(rdma_library, fabric_library)) {
    rows.push_back({{"name", library.name},
                    {"used_for", library.used_for},
                    {"found", library.found},
                    {"detail", library.detail}});
  }
  return rows;
}

std::string setting(const Json& configuration, const char* name) {
  for (const Json& row : configuration) {
    if (row.value("name", "") == name) return row.value("value", "");
  }
  return {};
}

}  // namespace

Json machine_info(const Result<std::unique_ptr<Engine>>& engine) {
  Json info;
  info["version"] = std::string(version());
  info["error"] = "";
  info["libraries"] = libraries_json("", "");
  info["addresses"] = Json::array();
  for (const HostAddress& address : host_addresses()) {
    info["addresses"].push_back({{"interface", address.interface},
                                 {"address", address.address},
                                 {"up", address.up},
                                 {"loopback", address.loopback}});
  }
  if (!engine.ok()) {
    info["error"] = engine.status().to_string();
    return info;
  }
  info["endpoint"] = (*engine)->local_endpoint();
  info["transports"] = Json::array();
  for (const TransportInfo& transport : (*engine)->transports()) {
    info["transports"].push_back({{"name", transport.name},
                                  {"available", transport.available},
                                  {"installed", transport.installed},
                                  {"detail", transport.detail}});
  }
  if (const Result<std::string> topology = (*engine)->topology(); topology.ok()) {
    info["topology"] = Json::parse(*topology, nullptr, false);
  } else {
    info["error"] = topology.status().to_string();
  }
  info["configuration"] = Json::parse((*engine)->effective_config(), nullptr, false);
  if (!info["configuration"].is_array()) {
    info["configuration"] = Json::array();
    info["error"] = "internal: the engine's configuration is not a JSON array";
  }
  info["libraries"] = libraries_json(setting(info["configuration"], "rdma_library"),
                                     setting(info["configuration"], "fabric_library"));
  return info;
}

}  // namespace te::tool
