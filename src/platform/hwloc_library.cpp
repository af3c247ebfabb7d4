#include "platform/hwloc_library.h"

#include <memory>

#include "base/dynamic_library.h"
#include "base/log.h"

namespace te {
namespace {

Result<std::unique_ptr<HwlocLibrary>> load(const std::string& path) {
  Result<DynamicLibrary> library = DynamicLibrary::open(path);
  if (!library.ok()) {
    return error(Code::kUnsupported, "hwloc is missing: {}; install it (Debian: libhwloc15)",
                 library.status().message());
  }
  auto hwloc = std::make_unique<HwlocLibrary>();
  library->look_up("hwloc_topology_init", &hwloc->topology_init);
  library->look_up("hwloc_topology_destroy", &hwloc->topology_destroy);
  library->look_up("hwloc_topology_set_io_types_filter", &hwloc->topology_set_io_types_filter);
  library->look_up("hwloc_topology_set_xml", &hwloc->topology_set_xml);
  library->look_up("hwloc_topology_load", &hwloc->topology_load);
  library->look_up("hwloc_topology_is_thissystem", &hwloc->topology_is_thissystem);
  library->look_up("hwloc_get_type_depth", &hwloc->get_type_depth);
  library->look_up("hwloc_get_obj_by_depth", &hwloc->get_obj_by_depth);
  library->look_up("hwloc_bitmap_weight", &hwloc->bitmap_weight);
  library->look_up("hwloc_bitmap_first", &hwloc->bitmap_first);
  library->look_up("hwloc_bitmap_next", &hwloc->bitmap_next);
  library->look_up("hwloc_bitmap_isset", &hwloc->bitmap_isset);
  library->look_up("hwloc_distances_get_by_type", &hwloc->distances_get_by_type);
  library->look_up("hwloc_distances_release", &hwloc->distances_release);
  TE_RETURN_IF_ERROR(library->keep("hwloc 2"));
  return hwloc;
}

OpenLibraries<HwlocLibrary>& opened = *new OpenLibraries<HwlocLibrary>;

}  // namespace

Result<const HwlocLibrary*> hwloc_library(const std::string& path) {
  return opened.get(path, load);
}

}  // namespace te
