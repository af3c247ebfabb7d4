#include "core/topology.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "base/log.h"

namespace te {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxMatrixBytes = 1 << 20;
constexpr std::string_view kMatrixForm = R"({"cpu:0": [["mlx5_0"], ["mlx5_1"]]})";

// Latency between nodes where the machine does not tell.
constexpr uint64_t kLocal = 10;
constexpr uint64_t kSamePackage = 12;
constexpr uint64_t kOtherPackage = 20;

const MemoryNode* find_node(const Topology& topology, uint32_t index) {
  for (const MemoryNode& node : topology.nodes) {
    if (node.index == index) return &node;
  }
  return nullptr;
}

uint64_t latency_between(const Topology& topology, const MemoryNode& a, const MemoryNode& b) {
  if (topology.latency.empty()) {
    if (a.index == b.index) return kLocal;
    return a.package == b.package ? kSamePackage : kOtherPackage;
  }
  return topology.latency[static_cast<size_t>(&a - topology.nodes.data())]
                         [static_cast<size_t>(&b - topology.nodes.data())];
}

// A place whose nodes are not known is near to all.
Distance across_nodes(const Topology& topology, const std::vector<uint32_t>& from,
                      const std::vector<uint32_t>& to) {
  if (from.empty() || to.empty()) return {Proximity::kNode, 0};
  Distance nearest{Proximity::kMachine, UINT64_MAX};
  for (const uint32_t first : from) {
    for (const uint32_t second : to) {
      if (first == second) return {Proximity::kNode, 0};
      const MemoryNode* a = find_node(topology, first);
      const MemoryNode* b = find_node(topology, second);
      if (a == nullptr || b == nullptr) continue;
      const Proximity how = a->package == b->package ? Proximity::kPackage : Proximity::kMachine;
      nearest = std::min(nearest, Distance{how, latency_between(topology, *a, *b)});
    }
  }
  return nearest;
}

Distance between(const Topology& topology, const DevicePlace& a, const DevicePlace& b) {
  const size_t shorter = std::min(a.bridges.size(), b.bridges.size());
  size_t shared = 0;
  while (shared < shorter && a.bridges[shared] == b.bridges[shared]) ++shared;
  if (shared >= 2) {
    return {Proximity::kSwitch, a.bridges.size() + b.bridges.size() - 2 * shared};
  }
  if (shared == 1) return {Proximity::kHostBridge, 0};
  return across_nodes(topology, a.nodes, b.nodes);
}

bool parse_location(std::string_view location, std::string_view kind, uint32_t* number) {
  if (!location.starts_with(kind)) return false;
  location.remove_prefix(kind.size());
  const char* const end = location.data() + location.size();
  const auto [stopped, ec] = std::from_chars(location.data(), end, *number);
  return ec == std::errc() && stopped == end && !location.empty();
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

std::vector<std::string> nic_names(const Topology& topology) {
  std::vector<std::string> names;
  for (const Nic& nic : topology.nics) names.push_back(nic.name);
  return names;
}

Status wrong_matrix(const std::string& what) {
  return error(Code::kInvalidArgument, "the NIC priority matrix: {}; its form is {}", what,
               kMatrixForm);
}

Status parse_names(const Json& list, const std::string& location, std::set<std::string>& seen,
                   std::vector<std::string>& names) {
  if (!list.is_array()) return wrong_matrix("'" + location + "' has something that is not a list");
  for (const Json& name : list) {
    if (!name.is_string() || name.get_ref<const std::string&>().empty()) {
      return wrong_matrix("'" + location + "' lists something that is not the name of a NIC");
    }
    names.push_back(name.get<std::string>());
    if (!seen.insert(names.back()).second) {
      return wrong_matrix("'" + location + "' lists '" + names.back() + "' twice");
    }
  }
  return {};
}

Status parse_row(const std::string& location, const Json& value, NicMatrix::Row& row) {
  uint32_t number = 0;
  if (location != "*" && !parse_location(location, "cpu:", &number) &&
      !parse_location(location, "cuda:", &number)) {
    return wrong_matrix("'" + location + "' is not a location: 'cpu:N', 'cuda:N' or '*'");
  }
  if (!value.is_array() || value.empty() || value.size() > 2) {
    return wrong_matrix("'" + location +
                        "' needs a list of two lists: the preferred NICs, then the others");
  }
  row.location = location;
  std::set<std::string> seen;
  TE_RETURN_IF_ERROR(parse_names(value[0], location, seen, row.preferred));
  if (value.size() == 2) TE_RETURN_IF_ERROR(parse_names(value[1], location, seen, row.other));
  if (seen.empty()) return wrong_matrix("'" + location + "' has no NIC");
  return {};
}

Json matrix_json(const NicMatrix& matrix) {
  Json rows = Json::object();
  for (const NicMatrix::Row& row : matrix.rows) {
    rows[row.location] = Json::array({row.preferred, row.other});
  }
  return rows;
}

Json place_json(const DevicePlace& place, Json row) {
  row["pci"] = place.pci_address;
  row["bridges"] = place.bridges;
  row["nodes"] = place.nodes;
  return row;
}

Json nic_json(const Nic& nic) {
  Json row = place_json(nic.place, {{"name", nic.name}, {"interface", nic.interface}});
  row["ports"] = Json::array();
  for (const NicPort& port : nic.ports) {
    Json gids = Json::array();
    for (const NicPort::Gid& gid : port.gids) {
      gids.push_back({{"index", gid.index},
                      {"address", gid.address},
                      {"type", gid.type},
                      {"interface", gid.interface}});
    }
    row["ports"].push_back({{"number", port.number},
                            {"state", port.state},
                            {"link_layer", port.link_layer},
                            {"bits_per_s", port.bits_per_s},
                            {"gids", std::move(gids)}});
  }
  return row;
}

std::string dumped(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

bool fits(std::string_view pattern, std::string_view name) {
  if (pattern.ends_with('*')) return name.starts_with(pattern.substr(0, pattern.size() - 1));
  return pattern == name;
}

}  // namespace

bool Nic::usable() const {
  if (ports.empty()) return true;
  return std::any_of(ports.begin(), ports.end(), [](const NicPort& port) {
    return port.state.empty() || port.state == "active";
  });
}

const Nic* Topology::find_nic(std::string_view name) const {
  for (const Nic& nic : nics) {
    if (nic.name == name) return &nic;
  }
  return nullptr;
}

std::vector<std::string> Topology::locations() const {
  std::vector<std::string> result;
  for (const MemoryNode& node : nodes) result.push_back(fmt::format("cpu:{}", node.index));
  for (const Gpu& gpu : gpus) result.push_back(fmt::format("cuda:{}", gpu.index));
  return result;
}

std::string_view proximity_name(Proximity proximity) {
  constexpr std::string_view kNames[] = {"switch", "host bridge", "node", "package", "machine"};
  return kNames[static_cast<size_t>(proximity)];
}

Distance distance(const Topology& topology, std::string_view location, const Nic& nic) {
  uint32_t number = 0;
  if (parse_location(location, "cpu:", &number)) {
    return across_nodes(topology, {number}, nic.place.nodes);
  }
  if (parse_location(location, "cuda:", &number)) {
    for (const Gpu& gpu : topology.gpus) {
      if (gpu.index == number) return between(topology, gpu.place, nic.place);
    }
  }
  return {Proximity::kMachine, UINT64_MAX};
}

const NicMatrix::Row* NicMatrix::find(std::string_view location) const {
  const Row* for_all = nullptr;
  for (const Row& row : rows) {
    if (row.location == location) return &row;
    if (row.location == "*") for_all = &row;
  }
  return for_all;
}

std::string NicMatrix::to_json() const { return dumped(matrix_json(*this)); }

Result<NicMatrix> NicMatrix::parse(std::string_view json) {
  if (json.size() > kMaxMatrixBytes) {
    return wrong_matrix(fmt::format("{} bytes are more than {}", json.size(), kMaxMatrixBytes));
  }
  std::set<std::string> locations;
  std::string twice;
  // A second value for a key would replace the first in silence.
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::key && depth == 1 &&
        !locations.insert(parsed.get<std::string>()).second) {
      twice = parsed.get<std::string>();
    }
    return true;
  };
  const Json parsed = Json::parse(json, watch, false);
  if (parsed.is_discarded()) return wrong_matrix("it is not JSON");
  if (!parsed.is_object() || parsed.empty()) return wrong_matrix("it names no location");
  if (!twice.empty()) return wrong_matrix("'" + twice + "' is there twice");
  NicMatrix matrix;
  for (const auto& [location, value] : parsed.items()) {
    TE_RETURN_IF_ERROR(parse_row(location, value, matrix.rows.emplace_back()));
  }
  return matrix;
}

NicMatrix make_nic_matrix(const Topology& topology) {
  NicMatrix matrix;
  for (const std::string& location : topology.locations()) {
    struct Candidate {
      bool unusable;
      Distance away;
      const Nic* nic;
    };
    std::vector<Candidate> candidates;
    for (const Nic& nic : topology.nics) {
      candidates.push_back({!nic.usable(), distance(topology, location, nic), &nic});
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& a, const Candidate& b) {
                       return std::tie(a.unusable, a.away) < std::tie(b.unusable, b.away);
                     });
    NicMatrix::Row& row = matrix.rows.emplace_back();
    row.location = location;
    for (const Candidate& candidate : candidates) {
      const bool preferred = !candidate.unusable && candidate.away == candidates.front().away;
      (preferred ? row.preferred : row.other).push_back(candidate.nic->name);
    }
  }
  matrix.gpus = locations_of_gpus(topology);
  return matrix;
}

std::map<std::string, std::string, std::less<>> locations_of_gpus(const Topology& topology) {
  std::map<std::string, std::string, std::less<>> result;
  for (const Gpu& gpu : topology.gpus) {
    if (gpu.place.pci_address.empty()) continue;
    result[gpu.place.pci_address] = fmt::format("cuda:{}", gpu.index);
  }
  return result;
}

Status check_nic_matrix(const NicMatrix& matrix, const Topology& topology) {
  const std::vector<std::string> locations = topology.locations();
  for (const NicMatrix::Row& row : matrix.rows) {
    if (row.location != "*" &&
        std::find(locations.begin(), locations.end(), row.location) == locations.end()) {
      return error(Code::kNotFound,
                   "the NIC priority matrix names location '{}': this machine has {}", row.location,
                   joined(locations));
    }
    for (const std::vector<std::string>* names : {&row.preferred, &row.other}) {
      for (const std::string& name : *names) {
        if (topology.find_nic(name) != nullptr) continue;
        return error(Code::kNotFound,
                     "the NIC priority matrix names '{}' for '{}': the NICs here are {}", name,
                     row.location, joined(nic_names(topology)));
      }
    }
  }
  return {};
}

Status keep_nics(std::string_view filter, Topology& topology) {
  if (filter.empty()) return {};
  const bool leave_out = filter.starts_with('^');
  if (leave_out) filter.remove_prefix(1);
  std::set<std::string> named;
  for (size_t begin = 0; begin <= filter.size();) {
    const size_t end = std::min(filter.find(',', begin), filter.size());
    const std::string_view pattern = filter.substr(begin, end - begin);
    bool found = false;
    for (const Nic& nic : topology.nics) {
      if (!fits(pattern, nic.name)) continue;
      found = true;
      named.insert(nic.name);
    }
    // A NIC that is to be left out may be gone already.
    if (pattern.empty() || (!found && !leave_out)) {
      return error(Code::kInvalidArgument, "no NIC is called '{}': the NICs here are {}", pattern,
                   joined(nic_names(topology)));
    }
    begin = end + 1;
  }
  std::erase_if(topology.nics,
                [&](const Nic& nic) { return named.contains(nic.name) == leave_out; });
  return {};
}

std::string topology_json(const Topology& topology) {
  Json json;
  json["source"] = topology.source;
  json["nodes"] = Json::array();
  for (const MemoryNode& node : topology.nodes) {
    json["nodes"].push_back({{"location", fmt::format("cpu:{}", node.index)},
                             {"package", node.package},
                             {"bytes", node.bytes}});
  }
  json["gpus"] = Json::array();
  for (const Gpu& gpu : topology.gpus) {
    json["gpus"].push_back(place_json(
        gpu.place, {{"location", fmt::format("cuda:{}", gpu.index)}, {"model", gpu.model}}));
  }
  json["nics"] = Json::array();
  for (const Nic& nic : topology.nics) json["nics"].push_back(nic_json(nic));
  json["proximity"] = Json::object();
  for (const std::string& location : topology.locations()) {
    Json& row = json["proximity"][location] = Json::object();
    for (const Nic& nic : topology.nics) {
      row[nic.name] = proximity_name(distance(topology, location, nic).proximity);
    }
  }
  json["nic_priority_matrix"] = matrix_json(make_nic_matrix(topology));
  return dumped(json);
}

}  // namespace te
