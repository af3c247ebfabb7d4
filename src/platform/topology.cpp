#include "platform/topology.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>

#include "base/log.h"
#include "platform/hwloc_library.h"

namespace te {
namespace {

namespace fs = std::filesystem;

using PciAttributes = hwloc_obj_attr_u::hwloc_pcidev_attr_s;
using BridgeAttributes = hwloc_obj_attr_u::hwloc_bridge_attr_s;

constexpr uint16_t kNvidia = 0x10de;
constexpr uint16_t kAmd = 0x1002;
constexpr uint32_t kMaxGids = 1024;

struct Destroy {
  const HwlocLibrary* hwloc;
  void operator()(hwloc_topology_t topology) const { hwloc->topology_destroy(topology); }
};
// As hwloc describes it.
class Machine {
 public:
  Machine(const HwlocLibrary& hwloc, hwloc_topology_t topology)
      : hwloc_(hwloc), topology_(topology, Destroy{&hwloc}) {}
  const HwlocLibrary& hwloc() const { return hwloc_; }
  hwloc_topology_t get() const { return topology_.get(); }
  hwloc_obj_t next_of_type(hwloc_obj_type_t type, hwloc_obj_t before) const {
    return hwloc_.next_of_type(get(), type, before);
  }

 private:
  const HwlocLibrary& hwloc_;
  std::unique_ptr<hwloc_topology, Destroy> topology_;
};

std::string text(const char* chars) { return chars == nullptr ? "" : chars; }

std::string info(hwloc_obj_t object, const char* name) {
  return text(hwloc_obj_get_info_by_name(object, name));
}

// mlx5_2 before mlx5_10.
bool natural_less(std::string_view a, std::string_view b) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  while (!a.empty() && !b.empty()) {
    if (digit(a.front()) && digit(b.front())) {
      uint64_t x = 0, y = 0;
      const char* const a_end = std::from_chars(a.data(), a.data() + a.size(), x).ptr;
      const char* const b_end = std::from_chars(b.data(), b.data() + b.size(), y).ptr;
      if (x != y) return x < y;
      a.remove_prefix(static_cast<size_t>(a_end - a.data()));
      b.remove_prefix(static_cast<size_t>(b_end - b.data()));
      continue;
    }
    if (a.front() != b.front()) return a.front() < b.front();
    a.remove_prefix(1);
    b.remove_prefix(1);
  }
  return a.size() < b.size();
}

std::vector<uint32_t> indexes(const HwlocLibrary& hwloc, hwloc_const_bitmap_t set) {
  std::vector<uint32_t> result;
  if (set == nullptr || hwloc.bitmap_weight(set) < 0) return result;
  for (int i = hwloc.bitmap_first(set); i >= 0; i = hwloc.bitmap_next(set, i)) {
    result.push_back(static_cast<uint32_t>(i));
  }
  return result;
}

void read_nodes(const Machine& machine, Topology& topology) {
  for (hwloc_obj_t node = nullptr;
       (node = machine.next_of_type(HWLOC_OBJ_NUMANODE, node)) != nullptr;) {
    MemoryNode& added = topology.nodes.emplace_back();
    added.index = node->os_index;
    added.bytes = node->attr->numanode.local_memory;
    for (hwloc_obj_t package = nullptr;
         (package = machine.next_of_type(HWLOC_OBJ_PACKAGE, package)) != nullptr;) {
      if (machine.hwloc().bitmap_isset(package->nodeset, node->os_index) == 0) continue;
      added.package = package->os_index;
      break;
    }
  }
  std::sort(topology.nodes.begin(), topology.nodes.end(),
            [](const MemoryNode& a, const MemoryNode& b) { return a.index < b.index; });
}

// What the firmware says; left empty where it does not, or not of every node.
void read_latency(const Machine& machine, Topology& topology) {
  unsigned count = 1;
  hwloc_distances_s* table = nullptr;
  if (machine.hwloc().distances_get_by_type(machine.get(), HWLOC_OBJ_NUMANODE, &count, &table,
                                            HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0) != 0 ||
      count == 0) {
    return;
  }
  const size_t size = topology.nodes.size();
  std::vector<std::vector<uint64_t>> latency(size, std::vector<uint64_t>(size, 0));
  size_t known = 0;
  const auto position = [&](unsigned i) {
    for (size_t at = 0; at < size; ++at) {
      if (table->objs[i] != nullptr && table->objs[i]->os_index == topology.nodes[at].index) {
        return at;
      }
    }
    return size;
  };
  for (unsigned i = 0; i < table->nbobjs; ++i) {
    for (unsigned j = 0; j < table->nbobjs; ++j) {
      const size_t from = position(i), to = position(j);
      if (from == size || to == size) continue;
      latency[from][to] = table->values[i * table->nbobjs + j];
      ++known;
    }
  }
  machine.hwloc().distances_release(machine.get(), table);
  if (known == size * size) topology.latency = std::move(latency);
}

std::string address_of(const PciAttributes& pci) {
  return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", pci.domain, pci.bus, pci.dev, pci.func);
}

DevicePlace place_of(const Machine& machine, hwloc_obj_t device) {
  DevicePlace place;
  if (device->type == HWLOC_OBJ_PCI_DEVICE) place.pci_address = address_of(device->attr->pcidev);
  for (hwloc_obj_t up = device->parent; up != nullptr; up = up->parent) {
    if (up->type != HWLOC_OBJ_BRIDGE) continue;
    const BridgeAttributes& bridge = up->attr->bridge;
    place.bridges.push_back(bridge.upstream_type == HWLOC_OBJ_BRIDGE_PCI
                                ? address_of(bridge.upstream.pci)
                                : fmt::format("{:04x}:{:02x}", bridge.downstream.pci.domain,
                                              bridge.downstream.pci.secondary_bus));
  }
  std::reverse(place.bridges.begin(), place.bridges.end());
  hwloc_obj_t above = hwloc_get_non_io_ancestor_obj(machine.get(), device);
  if (above != nullptr) place.nodes = indexes(machine.hwloc(), above->nodeset);
  return place;
}

// The PCI device that an OS device belongs to, or itself.
hwloc_obj_t hardware_of(hwloc_obj_t device) {
  for (hwloc_obj_t up = device; up != nullptr; up = up->parent) {
    if (up->type == HWLOC_OBJ_PCI_DEVICE) return up;
  }
  return device;
}

// N where a device below `hardware` is called PREFIX and N.
bool numbered_child(hwloc_obj_t hardware, std::string_view prefix, uint32_t* number) {
  for (hwloc_obj_t child = hardware->io_first_child; child != nullptr;
       child = child->next_sibling) {
    const std::string name = text(child->name);
    if (child->type != HWLOC_OBJ_OS_DEVICE || !name.starts_with(prefix)) continue;
    const char* const end = name.data() + name.size();
    const auto [stopped, ec] = std::from_chars(name.data() + prefix.size(), end, *number);
    if (ec == std::errc() && stopped == end) return true;
  }
  return false;
}

bool is_gpu(const PciAttributes& pci) {
  if (pci.vendor_id == kNvidia) return pci.class_id >> 8 == 0x03;
  return pci.vendor_id == kAmd &&
         (pci.class_id == 0x0302 || pci.class_id == 0x0380 || pci.class_id == 0x1200);
}

std::string model_of(hwloc_obj_t hardware) {
  for (hwloc_obj_t child = hardware->io_first_child; child != nullptr;
       child = child->next_sibling) {
    if (std::string model = info(child, "GPUModel"); !model.empty()) return model;
  }
  return info(hardware, "PCIDevice");
}

// Their numbers are CUDA's where hwloc knows them of all, else the driver's, else the order of
// the PCI addresses.
void read_gpus(const Machine& machine, Topology& topology) {
  std::vector<hwloc_obj_t> found;
  for (hwloc_obj_t device = nullptr;
       (device = machine.next_of_type(HWLOC_OBJ_PCI_DEVICE, device)) != nullptr;) {
    if (is_gpu(device->attr->pcidev)) found.push_back(device);
  }
  std::sort(found.begin(), found.end(), [](hwloc_obj_t a, hwloc_obj_t b) {
    return address_of(a->attr->pcidev) < address_of(b->attr->pcidev);
  });
  std::vector<uint32_t> numbers;
  for (const std::string_view prefix : {"cuda", "nvml", "rsmi"}) {
    numbers.clear();
    for (const hwloc_obj_t hardware : found) {
      uint32_t number = 0;
      if (numbered_child(hardware, prefix, &number)) numbers.push_back(number);
    }
    if (numbers.size() == found.size()) break;
  }
  const bool numbered = numbers.size() == found.size();
  for (size_t i = 0; i < found.size(); ++i) {
    topology.gpus.push_back({numbered ? numbers[i] : static_cast<uint32_t>(i), model_of(found[i]),
                             place_of(machine, found[i])});
  }
  std::sort(topology.gpus.begin(), topology.gpus.end(),
            [](const Gpu& a, const Gpu& b) { return a.index < b.index; });
}

std::string state_name(std::string_view number) {
  constexpr std::string_view kStates[] = {"", "down", "init", "armed", "active", "active deferred"};
  const size_t state = number.empty() ? 0 : static_cast<size_t>(number.front() - '0');
  return std::string(state < std::size(kStates) ? kStates[state] : "");
}

// What hwloc recorded of the ports.
void read_recorded_ports(hwloc_obj_t device, Nic& nic) {
  for (uint32_t number = 1;; ++number) {
    const std::string prefix = fmt::format("Port{}", number);
    const std::string state = info(device, (prefix + "State").c_str());
    if (state.empty()) return;
    NicPort& port = nic.ports.emplace_back();
    port.number = number;
    port.state = state_name(state);
    const std::string lid = info(device, (prefix + "LID").c_str());
    // Only InfiniBand has local identifiers; a port that is up has one.
    if (!lid.empty() && lid != "0x0") port.link_layer = "InfiniBand";
    if (lid == "0x0" && port.state == "active") port.link_layer = "Ethernet";
    for (uint32_t index = 0; index < kMaxGids; ++index) {
      const std::string gid = info(device, fmt::format("{}GID{}", prefix, index).c_str());
      if (gid.empty()) break;
      port.gids.push_back({index, gid, "", ""});
    }
  }
}

std::string read_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The directory's entries that are numbers, ascending.
std::vector<uint32_t> numbers_in(const fs::path& directory) {
  std::vector<uint32_t> result;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, ignored)) {
    const std::string name = entry.path().filename();
    uint32_t number = 0;
    const char* const end = name.data() + name.size();
    const auto [stopped, ec] = std::from_chars(name.data(), end, number);
    if (ec == std::errc() && stopped == end) result.push_back(number);
  }
  std::sort(result.begin(), result.end());
  return result;
}

uint64_t bits_per_s(const std::string& rate) {
  double gigabits = 0;  // "200 Gb/sec (4X HDR)", "2.5 Gb/sec (1X SDR)"
  std::from_chars(rate.data(), rate.data() + rate.size(), gigabits);
  return gigabits > 0 ? static_cast<uint64_t>(gigabits * 1e9) : 0;
}

// Ports as they are now.
void read_live_ports(const fs::path& device, Nic& nic) {
  std::vector<NicPort> ports;
  for (const uint32_t number : numbers_in(device / "ports")) {
    const fs::path directory = device / "ports" / std::to_string(number);
    NicPort& port = ports.emplace_back();
    port.number = number;
    port.state = state_name(read_line(directory / "state"));
    port.link_layer = read_line(directory / "link_layer");
    port.bits_per_s = bits_per_s(read_line(directory / "rate"));
    for (const uint32_t index : numbers_in(directory / "gids")) {
      const std::string entry = std::to_string(index);
      std::string gid = read_line(directory / "gids" / entry);
      if (gid.find_first_not_of(":0") == std::string::npos) continue;  // an unused entry
      port.gids.push_back({index, std::move(gid),
                           read_line(directory / "gid_attrs" / "types" / entry),
                           read_line(directory / "gid_attrs" / "ndevs" / entry)});
      if (nic.interface.empty()) nic.interface = port.gids.back().interface;
    }
  }
  if (!ports.empty()) nic.ports = std::move(ports);
}

void read_nics(const Machine& machine, Topology& topology) {
  for (hwloc_obj_t device = nullptr;
       (device = machine.next_of_type(HWLOC_OBJ_OS_DEVICE, device)) != nullptr;) {
    if (device->attr->osdev.type != HWLOC_OBJ_OSDEV_OPENFABRICS || device->name == nullptr) {
      continue;
    }
    const hwloc_obj_t hardware = hardware_of(device);
    Nic& nic = topology.nics.emplace_back();
    nic.name = device->name;
    nic.place = place_of(machine, hardware);
    read_recorded_ports(device, nic);
    for (hwloc_obj_t beside = hardware->io_first_child; beside != nullptr && nic.interface.empty();
         beside = beside->next_sibling) {
      if (beside->type == HWLOC_OBJ_OS_DEVICE &&
          beside->attr->osdev.type == HWLOC_OBJ_OSDEV_NETWORK) {
        nic.interface = text(beside->name);
      }
    }
  }
}

// hwloc leaves devices without hardware behind them out, such as Soft-RoCE's.
void read_live_nics(const std::string& infiniband, Topology& topology) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(infiniband, ignored)) {
    const std::string name = entry.path().filename();
    if (topology.find_nic(name) == nullptr) topology.nics.emplace_back().name = name;
  }
  for (Nic& nic : topology.nics) read_live_ports(fs::path(infiniband) / nic.name, nic);
}

Result<Machine> load(const HwlocLibrary& hwloc, const std::string& xml_file) {
  hwloc_topology_t made = nullptr;
  if (hwloc.topology_init(&made) != 0) return Status(Code::kResource, "hwloc: no memory");
  Machine machine(hwloc, made);
  hwloc.topology_set_io_types_filter(made, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
  if (!xml_file.empty() && hwloc.topology_set_xml(made, xml_file.c_str()) != 0) {
    return error(Code::kInvalidArgument, "'{}' is not a machine recorded by hwloc: {}", xml_file,
                 errno == ENOENT ? "there is no such file" : "write one with lstopo FILE.xml");
  }
  if (hwloc.topology_load(made) != 0) {
    return error(Code::kUnsupported, "hwloc cannot read {}",
                 xml_file.empty() ? "this machine's topology" : "'" + xml_file + "'");
  }
  return machine;
}

void sort_nics(Topology& topology) {
  std::sort(topology.nics.begin(), topology.nics.end(),
            [](const Nic& a, const Nic& b) { return natural_less(a.name, b.name); });
}

Result<Topology> read_by_hwloc(const HwlocLibrary& hwloc, const std::string& xml_file,
                               const std::string& infiniband) {
  Result<Machine> machine = load(hwloc, xml_file);
  if (!machine.ok()) return machine.status();
  Topology topology;
  read_nodes(*machine, topology);
  read_latency(*machine, topology);
  read_gpus(*machine, topology);
  read_nics(*machine, topology);
  if (hwloc.topology_is_thissystem(machine->get()) != 0) {
    topology.source = "this machine";
    read_live_nics(infiniband, topology);
  } else {
    topology.source = xml_file.empty() ? "hwloc's synthetic machine" : xml_file;
  }
  sort_nics(topology);
  return topology;
}

// What the kernel says of nodes and NICs.
Topology read_kernel_topology(const TopologyOrigin& origin) {
  Topology topology;
  topology.source = "this machine, without hwloc";
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(origin.nodes, ignored)) {
    unsigned index = 0;
    char after = 0;
    const std::string name = entry.path().filename();
    if (std::sscanf(name.c_str(), "node%u%c", &index, &after) != 1) continue;
    MemoryNode& node = topology.nodes.emplace_back();
    node.index = index;
    unsigned long kib = 0;
    if (std::sscanf(read_line(entry.path() / "meminfo").c_str(), "Node %*u MemTotal: %lu kB",
                    &kib) == 1) {
      node.bytes = kib << 10;
    }
  }
  // A kernel without NUMA has no such directory.
  if (topology.nodes.empty()) topology.nodes.emplace_back();
  std::sort(topology.nodes.begin(), topology.nodes.end(),
            [](const MemoryNode& a, const MemoryNode& b) { return a.index < b.index; });
  read_live_nics(origin.infiniband, topology);
  for (Nic& nic : topology.nics) {
    const fs::path device = fs::path(origin.infiniband) / nic.name / "device";
    const std::string pci = fs::read_symlink(device, ignored).filename();
    if (std::count(pci.begin(), pci.end(), ':') == 2) nic.place.pci_address = pci;
    const std::string line = read_line(device / "numa_node");
    int node = -1;
    std::from_chars(line.data(), line.data() + line.size(), node);
    if (node >= 0) {
      nic.place.nodes = {static_cast<uint32_t>(node)};
    } else {
      for (const MemoryNode& each : topology.nodes) nic.place.nodes.push_back(each.index);
    }
  }
  sort_nics(topology);
  return topology;
}

}  // namespace

Result<Topology> read_topology(const TopologyOrigin& origin) {
  std::string xml_file = origin.xml_file;
  // hwloc would pass over a file it cannot read in silence, and show this machine.
  // NOLINTNEXTLINE(concurrency-mt-unsafe): as unsafe as hwloc, which reads it too
  if (const char* variable = std::getenv("HWLOC_XMLFILE");
      xml_file.empty() && variable != nullptr && *variable != '\0') {
    xml_file = variable;
  }
  const Result<const HwlocLibrary*> hwloc = hwloc_library(origin.hwloc);
  if (!hwloc.ok() && !xml_file.empty()) return hwloc.status();
  if (!hwloc.ok()) {
    warn_once(fmt::format("the topology has no GPUs, and places of NICs only roughly: {}",
                          hwloc.status().message()));
    return read_kernel_topology(origin);
  }
  return read_by_hwloc(**hwloc, xml_file, origin.infiniband);
}

}  // namespace te
