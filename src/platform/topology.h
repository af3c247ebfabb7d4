// Reads this machine's topology, with hwloc, whose own variables work (HWLOC_XMLFILE shows another
// machine), and the state of RDMA devices from /sys. Blocks, up to a second on large machines.
#pragma once

#include <string>

#include "core/topology.h"

namespace te {

struct TopologyOrigin {
  std::string xml_file;  // a machine recorded by hwloc; empty: what hwloc finds by itself
  std::string infiniband = "/sys/class/infiniband";
};

Result<Topology> read_topology(const TopologyOrigin& origin = {});

}  // namespace te
