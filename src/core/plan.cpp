#include "core/plan.h"

namespace te {
namespace {

// 0 is as good as it gets.
int drawback(const Path& path, const std::byte* key, const Path* avoid) {
  if (!path.reaches(key)) return 3;
  if (path.resting.load(std::memory_order_relaxed)) return 2;
  return &path == avoid ? 1 : 0;
}

}  // namespace

Path* choose_path(const Target& target, size_t buffer, const Path* avoid, const std::byte** key) {
  Path* best = nullptr;
  int least = 0;
  *key = nullptr;
  for (size_t i = 0; i < target.paths.size(); ++i) {
    const std::byte* candidate =
        target.descriptor.key(buffer, static_cast<size_t>(target.transport_of_path[i]));
    if (candidate == nullptr) continue;
    Path* path = target.paths[i].get();
    const int found = drawback(*path, candidate, avoid);
    if (best != nullptr && found >= least) continue;
    best = path;
    least = found;
    *key = candidate;
    if (least == 0) break;
  }
  return best;
}

}  // namespace te
