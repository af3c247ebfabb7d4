// Reads this machine's topology, with hwloc, whose own variables work (HWLOC_XMLFILE shows another
// machine), and the state of RDMA devices from /sys. Where hwloc is
// missing, that is said once, and /sys alone tells of nodes and NICs. Blocks, up to a second on
// large machines.
#pragma once

#include <string>

#include "core/topology.h"

namespace te {

struct TopologyOrigin {
  std::string xml_file;  // a machine recorded by hwloc; empty: what hwloc finds by itself
  std::string infiniband = "/sys/class/infiniband";
  std::string hwloc = "libhwloc.so.15";  // hwloc 2
  std::string nodes = "/sys/devices/system/node";
};

Result<Topology> read_topology(const TopologyOrigin& origin = {});

}  // namespace te
