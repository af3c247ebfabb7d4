#include "topology_view.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "table.h"

namespace te::tool {
namespace {

using Json = nlohmann::ordered_json;

struct Branch {
  std::string label;
  bool bridge = false;
  std::vector<Branch> children;

  Branch& child(const std::string& name, bool is_bridge = false) {
    for (Branch& branch : children) {
      if (branch.label == name) return branch;
    }
    children.push_back({name, is_bridge, {}});
    return children.back();
  }
};

std::string string_of(const Json& row, const char* key) {
  const auto value = row.find(key);
  return value != row.end() && value->is_string() ? value->get<std::string>() : "";
}

const Json& list_of(const Json& row, const char* key) {
  static const Json none = Json::array();
  const auto value = row.find(key);
  return value != row.end() && value->is_array() ? *value : none;
}

std::string count_of(size_t number, const char* what) {
  return fmt::format("{} {}{}", number, what, number == 1 ? "" : "s");
}

std::string node_label(const Json& node) {
  const uint64_t bytes = node.value("bytes", uint64_t{0});
  return fmt::format("{}  {} MiB", string_of(node, "location"), bytes >> 20);
}

std::string nic_label(const Json& nic) {
  std::string label = string_of(nic, "name");
  for (const Json& port : list_of(nic, "ports")) {
    label += fmt::format("  port {}:", port.value("number", 0));
    const std::string state = string_of(port, "state");
    label += " " + (state.empty() ? "state not known" : state);
    if (const std::string layer = string_of(port, "link_layer"); !layer.empty()) {
      label += " " + layer;
    }
    const double gigabits = port.value("bits_per_s", 0.0) / 1e9;
    if (gigabits > 0) label += fmt::format(" {:g} Gb/s", gigabits);
  }
  if (const std::string interface = string_of(nic, "interface"); !interface.empty()) {
    label += "  (" + interface + ")";
  }
  return label;
}

std::string gpu_label(const Json& gpu) {
  return string_of(gpu, "location") + "  " + string_of(gpu, "model");
}

// Where a device hangs: at its memory node, or, where it has several or none, at the machine.
void hang(Branch& machine, const Json& nodes, const Json& device, const std::string& label) {
  Branch* at = &machine;
  const Json& near = list_of(device, "nodes");
  for (const Json& node : nodes) {
    if (near.size() != 1 ||
        string_of(node, "location") != fmt::format("cpu:{}", near[0].get<uint64_t>())) {
      continue;
    }
    at =
        &machine.child(fmt::format("package {}", node.value("package", 0))).child(node_label(node));
  }
  for (const Json& bridge : list_of(device, "bridges")) {
    at = &at->child("PCI " + bridge.get<std::string>(), true);
  }
  at->child(label);
}

// A bridge with one thing below it says nothing about who shares what.
void shorten(Branch& branch) {
  for (Branch& child : branch.children) {
    while (child.bridge && child.children.size() == 1) {
      Branch only = std::move(child.children.front());
      child = std::move(only);
    }
    shorten(child);
  }
}

void draw(const Branch& branch, const std::string& indent, std::string& text) {
  for (size_t i = 0; i < branch.children.size(); ++i) {
    const bool last = i + 1 == branch.children.size();
    text += indent + (last ? "└─ " : "├─ ") + branch.children[i].label + "\n";
    draw(branch.children[i], indent + (last ? "   " : "│  "), text);
  }
}

std::string tree(const Json& topology) {
  const Json& nodes = list_of(topology, "nodes");
  Branch machine;
  for (const Json& node : nodes) {
    machine.child(fmt::format("package {}", node.value("package", 0))).child(node_label(node));
  }
  for (const Json& gpu : list_of(topology, "gpus")) hang(machine, nodes, gpu, gpu_label(gpu));
  for (const Json& nic : list_of(topology, "nics")) hang(machine, nodes, nic, nic_label(nic));
  shorten(machine);
  std::string text;
  draw(machine, "", text);
  return text;
}

std::string distances(const Json& topology) {
  std::vector<Table::Column> columns{{"location"}};
  const Json& nics = list_of(topology, "nics");
  for (const Json& nic : nics) columns.push_back({string_of(nic, "name")});
  Table table(columns);
  const Json matrix = topology.value("nic_priority_matrix", Json::object());
  const Json proximity = topology.value("proximity", Json::object());
  for (const auto& [location, row] : proximity.items()) {
    std::vector<std::string> cells{location};
    const Json groups = matrix.value(location, Json::array({Json::array()}));
    for (const Json& nic : nics) {
      const std::string name = string_of(nic, "name");
      const bool preferred = std::find(groups[0].begin(), groups[0].end(), name) != groups[0].end();
      cells.push_back(string_of(row, name.c_str()) + (preferred ? " *" : ""));
    }
    table.add_row(std::move(cells));
  }
  return table.to_string();
}

}  // namespace

std::string topology_view(const Json& topology) {
  const size_t nics = list_of(topology, "nics").size();
  std::string text = fmt::format("{}: {}, {}, {}\n\n{}", string_of(topology, "source"),
                                 count_of(list_of(topology, "nodes").size(), "memory node"),
                                 count_of(list_of(topology, "gpus").size(), "GPU"),
                                 count_of(nics, "RDMA device"), tree(topology));
  if (nics > 0) {
    text += "\nWhat each RDMA device shares with each location (* preferred there)\n" +
            distances(topology);
  }
  return text;
}

}  // namespace te::tool
