#include "core/plan.h"

#include "base/log.h"
#include "core/stage_message.h"

namespace te {
namespace {

// 0 is as good as it gets.
int drawback(const Path& path, const std::byte* key, const Path* avoid) {
  if (!path.reaches(key)) return 3;
  if (path.resting.load(std::memory_order_relaxed)) return 2;
  return &path == avoid ? 1 : 0;
}

}  // namespace

Path* choose_path(const Target& target, size_t buffer, LocalEnd local, const Path* avoid,
                  const std::byte** key) {
  Path* best = nullptr;
  int least = 0;
  *key = nullptr;
  const MemoryKind remote = target.descriptor.buffer(buffer).kind;
  const bool all_reach = local.kind == MemoryKind::kHost && remote == MemoryKind::kHost;
  for (size_t i = 0; i < target.paths.size(); ++i) {
    const std::byte* candidate =
        target.descriptor.key(buffer, static_cast<size_t>(target.transport_of_path[i]));
    if (candidate == nullptr) continue;
    Path* path = target.paths[i].get();
    if (!all_reach && !local.reached_by(*path, remote, candidate)) continue;
    const int found = drawback(*path, candidate, avoid);
    if (best != nullptr && found >= least) continue;
    best = path;
    least = found;
    *key = candidate;
    if (least == 0) break;
  }
  return best;
}

StagedEnds find_staged_ends(const Target& target, size_t buffer, LocalEnd local,
                            const std::byte** key) {
  const MemoryKind remote = target.descriptor.buffer(buffer).kind;
  const int staging = target.descriptor.transport_index(stage::kName);
  *key = nullptr;
  if (staging >= 0) {
    const auto index = static_cast<size_t>(staging);
    const bool right_size = target.descriptor.transports[index].key_size == AccessKey::kSize;
    if (right_size) *key = target.descriptor.key(buffer, index);
  }
  const auto reached = [&](const StagedEnds& ends) {
    const LocalEnd here = ends.local ? LocalEnd(MemoryKind::kHost) : local;
    const MemoryKind there = ends.remote ? MemoryKind::kHost : remote;
    for (size_t i = 0; i < target.paths.size(); ++i) {
      const auto transport = static_cast<size_t>(target.transport_of_path[i]);
      const std::byte* const of_buffer =
          ends.remote ? nullptr : target.descriptor.key(buffer, transport);
      const bool known = ends.remote || of_buffer != nullptr;
      if (known && here.reached_by(*target.paths[i], there, of_buffer)) return true;
    }
    return false;
  };
  const bool may_local = local.kind != MemoryKind::kHost;
  const bool may_remote = *key != nullptr;
  if (may_local && reached({.local = true})) return {.local = true};
  if (may_remote && reached({.remote = true})) return {.remote = true};
  if (may_local && may_remote && reached({true, true})) return {true, true};
  return {};
}

Status no_path(const Target& target, size_t buffer, MemoryKind local) {
  const RemoteBuffer& there = target.descriptor.buffer(buffer);
  const bool host = local == MemoryKind::kHost && there.kind == MemoryKind::kHost;
  if (target.paths.empty() || host) {
    return error(Code::kUnavailable,
                 "no installed transport reaches segment '{}': install one that it offers too",
                 target.segment);
  }
  std::string names;
  for (size_t i = 0; i < target.paths.size(); ++i) {
    const std::string& name =
        target.descriptor.transports[static_cast<size_t>(target.transport_of_path[i])].name;
    if (fmt::format(", {},", names).find(fmt::format(" {},", name)) != std::string::npos) continue;
    names += (names.empty() ? "" : ", ") + name;
  }
  return error(Code::kUnsupported,
               "segment '{}': no transport ({}) moves bytes between {} here and the target's {} at "
               "{:#x}, and its engine does not stage that in host memory: install a transport that "
               "reaches both kinds, or use a buffer in host memory",
               target.segment, names, kind_name(local), kind_name(there.kind), there.address);
}

}  // namespace te
