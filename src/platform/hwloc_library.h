// hwloc, which is opened when a topology is first read: programs start without it.
//
// Threads: any. It stays open until the process ends. Of its header, inline functions that call
// others must not be used.
#pragma once

#include <hwloc.h>

#include <string>

#include "transfer_engine/status.h"

namespace te {

struct HwlocLibrary {
  decltype(&::hwloc_topology_init) topology_init;
  decltype(&::hwloc_topology_destroy) topology_destroy;
  decltype(&::hwloc_topology_set_io_types_filter) topology_set_io_types_filter;
  decltype(&::hwloc_topology_set_xml) topology_set_xml;
  decltype(&::hwloc_topology_load) topology_load;
  decltype(&::hwloc_topology_is_thissystem) topology_is_thissystem;
  decltype(&::hwloc_get_type_depth) get_type_depth;
  decltype(&::hwloc_get_obj_by_depth) get_obj_by_depth;
  decltype(&::hwloc_bitmap_weight) bitmap_weight;
  decltype(&::hwloc_bitmap_first) bitmap_first;
  decltype(&::hwloc_bitmap_next) bitmap_next;
  decltype(&::hwloc_bitmap_isset) bitmap_isset;
  decltype(&::hwloc_distances_get_by_type) distances_get_by_type;
  decltype(&::hwloc_distances_release) distances_release;

  // The object of a type after `before`; null: the first one. Null where there is no other.
  hwloc_obj_t next_of_type(hwloc_topology_t machine, hwloc_obj_type_t type,
                           hwloc_obj_t before) const {
    if (before != nullptr) return before->next_cousin;
    const int depth = get_type_depth(machine, type);
    if (depth == HWLOC_TYPE_DEPTH_UNKNOWN || depth == HWLOC_TYPE_DEPTH_MULTIPLE) return nullptr;
    return get_obj_by_depth(machine, depth, 0);
  }
};

// Opened once; later calls return the same. kUnsupported, with what to install, where the machine
// has none by that path or name.
Result<const HwlocLibrary*> hwloc_library(const std::string& path);

}  // namespace te
