#include "platform/hwloc_library.h"

#include "base/dynamic_library.h"
#include "base/log.h"

namespace te {

Result<HwlocLibrary> open_hwloc(const std::string& path) {
  Result<DynamicLibrary> library = DynamicLibrary::open(path);
  if (!library.ok()) {
    return error(Code::kUnsupported, "hwloc is missing: {}; install it (Debian: libhwloc15)",
                 library.status().message());
  }
  HwlocLibrary hwloc{};
  bool complete = true;
  const auto look_up = [&](const char* name, auto* function) {
    complete = library->look_up(name, nullptr, function) && complete;
  };
  look_up("hwloc_topology_init", &hwloc.topology_init);
  look_up("hwloc_topology_destroy", &hwloc.topology_destroy);
  look_up("hwloc_topology_set_io_types_filter", &hwloc.topology_set_io_types_filter);
  look_up("hwloc_topology_set_xml", &hwloc.topology_set_xml);
  look_up("hwloc_topology_load", &hwloc.topology_load);
  look_up("hwloc_topology_is_thissystem", &hwloc.topology_is_thissystem);
  look_up("hwloc_get_type_depth", &hwloc.get_type_depth);
  look_up("hwloc_get_obj_by_depth", &hwloc.get_obj_by_depth);
  look_up("hwloc_bitmap_weight", &hwloc.bitmap_weight);
  look_up("hwloc_bitmap_first", &hwloc.bitmap_first);
  look_up("hwloc_bitmap_next", &hwloc.bitmap_next);
  look_up("hwloc_bitmap_isset", &hwloc.bitmap_isset);
  look_up("hwloc_distances_get_by_type", &hwloc.distances_get_by_type);
  look_up("hwloc_distances_release", &hwloc.distances_release);
  if (!complete) {
    return error(Code::kUnsupported, "{} is not hwloc 2: it lacks some of its functions",
                 library->path());
  }
  library->keep();
  return hwloc;
}

}  // namespace te
