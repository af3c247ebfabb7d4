#include "core/plan.h"

namespace te {

Path* choose_path(const Target& target, size_t buffer, const Path* avoid, const std::byte** key) {
  Path* last_resort = nullptr;
  const std::byte* last_resort_key = nullptr;
  for (size_t i = 0; i < target.paths.size(); ++i) {
    const std::byte* candidate =
        target.descriptor.key(buffer, static_cast<size_t>(target.transport_of_path[i]));
    if (candidate == nullptr) continue;
    Path* path = target.paths[i].get();
    const bool reaches = path->reaches(candidate);
    if (path == avoid || !reaches) {
      if (reaches || last_resort == nullptr) {
        last_resort = path;
        last_resort_key = candidate;
      }
      continue;
    }
    *key = candidate;
    return path;
  }
  *key = last_resort_key;
  return last_resort;
}

}  // namespace te
