// What this machine is made of, as far as moving bytes goes: memory nodes, GPUs, NICs, how far they
// are apart, and which NICs serve which memory. Values and pure functions; src/platform reads the
// machine.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "transfer_engine/status.h"

namespace te {

// Where a device sits.
struct DevicePlace {
  std::string pci_address;           // "0000:43:00.0", or empty: not a PCI device
  std::vector<std::string> bridges;  // PCI bridges above it, from the host bridge down
  std::vector<uint32_t> nodes;       // memory nodes it is next to; several where not known better
};

struct MemoryNode {
  uint32_t index = 0;
  uint32_t package = 0;
  uint64_t bytes = 0;
};

struct Gpu {
  uint32_t index = 0;
  std::string model;
  DevicePlace place;
};

struct NicPort {
  struct Gid {
    uint32_t index = 0;
    std::string address;    // as an IPv6 address
    std::string type;       // "IB/RoCE v1", "RoCE v2", or empty: not known
    std::string interface;  // the network interface it belongs to, where there is one
  };

  uint32_t number = 1;
  std::string state;        // "active", "down", "init", "armed", or empty: not known
  std::string link_layer;   // "InfiniBand", "Ethernet", or empty: not known
  uint64_t bits_per_s = 0;  // 0: not known
  std::vector<Gid> gids;
};

struct Nic {
  std::string name;
  std::string interface;  // its network interface, where there is one
  DevicePlace place;
  std::vector<NicPort> ports;

  // Whether a port is active, or nothing is known of its ports.
  bool usable() const;
};

struct Topology {
  std::string source;                          // where it was read
  std::vector<MemoryNode> nodes;               // by index
  std::vector<std::vector<uint64_t>> latency;  // between nodes, in their order; 10 is local
  std::vector<Gpu> gpus;                       // by index
  std::vector<Nic> nics;                       // by name, numbers by value

  const Nic* find_nic(std::string_view name) const;
  // "cpu:N" of every node, then "cuda:N" of every GPU.
  std::vector<std::string> locations() const;
};

// From near to far.
enum class Proximity : uint8_t {
  kSwitch,      // behind the same PCI switch
  kHostBridge,  // behind the same host bridge
  kNode,        // at the same memory node
  kPackage,     // in the same package
  kMachine,
};
std::string_view proximity_name(Proximity proximity);

struct Distance {
  Proximity proximity = Proximity::kMachine;
  uint64_t detail = 0;  // bridges between them behind a switch, the nodes' latency across nodes

  auto operator<=>(const Distance&) const = default;
};

// `location` must be one of topology.locations().
Distance distance(const Topology& topology, std::string_view location, const Nic& nic);

// Which NICs serve the memory at a location: the preferred ones first, the others when those are
// busy or gone.
struct NicMatrix {
  struct Row {
    std::string location;  // "cpu:N", "cuda:N", or "*": every location that has no row
    std::vector<std::string> preferred;
    std::vector<std::string> other;
  };
  std::vector<Row> rows;
  // The locations of this machine's GPUs by PCI address: drivers number GPUs in their own ways, in
  // each process, and the rows have the topology's numbers. Empty: not known.
  std::map<std::string, std::string, std::less<>> gpus = {};

  const Row* find(std::string_view location) const;
  // {"cpu:0": [["mlx5_0"], ["mlx5_1"]], ...}
  std::string to_json() const;
  // kInvalidArgument says what is wrong, and where.
  static Result<NicMatrix> parse(std::string_view json);
};

// Preferred are the usable NICs at the least distance; the others come by distance, and last those
// that are not usable now.
NicMatrix make_nic_matrix(const Topology& topology);
// See NicMatrix::gpus.
std::map<std::string, std::string, std::less<>> locations_of_gpus(const Topology& topology);
// kNotFound for a NIC or a location that the machine does not have.
Status check_nic_matrix(const NicMatrix& matrix, const Topology& topology);

// Leaves the NICs that `filter` names: names with commas between them, a * at the end of one stands
// for anything, a ^ before the first turns it into those to leave out. Empty: all.
// kInvalidArgument for a name that fits no NIC.
Status keep_nics(std::string_view filter, Topology& topology);

// Everything, with the matrix under "nic_priority_matrix".
std::string topology_json(const Topology& topology);

}  // namespace te
