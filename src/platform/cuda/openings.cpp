#include "platform/cuda/openings.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "platform/cuda/current_context.h"

namespace te::cuda {

Result<DevicePtr> Openings::open(const IpcMemHandle& handle) {
  const CurrentContext current(library_, context_);
  TE_RETURN_IF_ERROR(current.status());
  MutexLock lock(mutex_);
  const auto known = std::find_if(openings_.begin(), openings_.end(), [&](const auto& each) {
    const Opening& opening = each.second;
    return opening.chunk_length == 0 && std::memcmp(&opening.handle, &handle, sizeof handle) == 0;
  });
  if (known != openings_.end()) {
    ++known->second.users;
    return known->first;
  }
  DevicePtr begin = 0;
  const CuResult result = library_.sharing.open_handle(&begin, handle, kIpcLazyPeerAccess);
  if (result != CuResult::kSuccess) {
    return library_.failed("cuIpcOpenMemHandle", result, Code::kUnsupported);
  }
  openings_[begin].handle = handle;
  return begin;
}

Result<DevicePtr> Openings::map(int descriptor, size_t length) {
  auto* const shareable = reinterpret_cast<void*>(static_cast<intptr_t>(descriptor));
  return map_shareable(shareable, kHandlePosixFd, length);
}

Result<DevicePtr> Openings::map(const FabricHandle& handle, size_t length) {
  FabricHandle shareable = handle;
  return map_shareable(&shareable, kHandleFabric, length);
}

Result<DevicePtr> Openings::map_shareable(void* shareable, int type, size_t length) {
  const CurrentContext current(library_, context_);
  TE_RETURN_IF_ERROR(current.status());
  AllocationHandle chunk = 0;
  CuResult result = library_.sharing.import_chunk(&chunk, shareable, type);
  if (result != CuResult::kSuccess) {
    return library_.failed("cuMemImportFromShareableHandle", result, Code::kUnsupported);
  }
  // Mapped, it stays without the handle.
  const Result<DevicePtr> begin = map_at_any(chunk, length);
  (void)library_.sharing.release_chunk(chunk);
  if (!begin.ok()) return begin;
  const MemAccessDesc access{{kLocationDevice, device_}, kAccessReadWrite};
  result = library_.sharing.set_access(*begin, length, &access, 1);
  const Opening opening{.chunk_length = length};
  if (result != CuResult::kSuccess) {
    close_one(*begin, opening);
    return library_.failed("cuMemSetAccess", result, Code::kUnsupported);
  }
  MutexLock lock(mutex_);
  openings_[*begin] = opening;
  return begin;
}

Result<DevicePtr> Openings::map_at_any(AllocationHandle chunk, size_t length) const {
  DevicePtr begin = 0;
  CuResult result = library_.sharing.reserve(&begin, length, 0, 0, 0);
  if (result != CuResult::kSuccess) {
    return library_.failed("cuMemAddressReserve", result, Code::kUnsupported);
  }
  result = library_.sharing.map(begin, length, 0, chunk, 0);
  if (result == CuResult::kSuccess) return begin;
  (void)library_.sharing.free_reserved(begin, length);
  return library_.failed("cuMemMap", result, Code::kUnsupported);
}

void Openings::close_one(DevicePtr begin, const Opening& opening) const {
  CuResult result = CuResult::kSuccess;
  if (opening.chunk_length == 0) {
    result = library_.sharing.close_handle(begin);
  } else {
    result = library_.sharing.unmap(begin, opening.chunk_length);
    (void)library_.sharing.free_reserved(begin, opening.chunk_length);
  }
  if (result == CuResult::kSuccess) return;
  const char* const call = opening.chunk_length == 0 ? "cuIpcCloseMemHandle" : "cuMemUnmap";
  static LogLimit limit;
  log_limited(limit, LogLevel::kWarning, "{}", library_.failed(call, result).message());
}

void Openings::close(DevicePtr begin) {
  const CurrentContext current(library_, context_);
  MutexLock lock(mutex_);
  const auto found = openings_.find(begin);
  if (found == openings_.end() || --found->second.users > 0) return;
  close_one(begin, found->second);
  openings_.erase(found);
}

void Openings::close_all() {
  const CurrentContext current(library_, context_);
  MutexLock lock(mutex_);
  for (const auto& [begin, opening] : openings_) close_one(begin, opening);
  openings_.clear();
}

}  // namespace te::cuda
