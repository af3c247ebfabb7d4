// Memory of GPUs and pinned host memory, and what the driver tells of pointers.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>

#include "support/fake_cuda/fake_cuda.h"
#include "support/fake_cuda/world.h"

namespace te::test::fake_cuda {

Storage::Storage(size_t size) : length(size) {
  fd = ::memfd_create("fake-gpu-memory", MFD_CLOEXEC);
  if (fd >= 0 && ::ftruncate(fd, static_cast<off_t>(size)) == 0) return;
  if (fd >= 0) ::close(fd);
  fd = -1;
}
Storage::~Storage() {
  if (fd >= 0) ::close(fd);
}

namespace {

constexpr size_t kAlignment = 4096;

size_t aligned(size_t length) { return (length + kAlignment - 1) / kAlignment * kAlignment; }

// Addresses without any access; those that were freed last are used first, as allocators do.
void* take_addresses(size_t length) {
  const auto behind = world().freed.upper_bound(length);
  if (behind != world().freed.begin() && std::prev(behind)->first == length) {
    void* const address = std::prev(behind)->second;
    world().freed.erase(std::prev(behind));
    return address;
  }
  void* const address =
      ::mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return address == MAP_FAILED ? nullptr : address;
}

// Maps it there, and once more where it can be read and written: at mapping.view, if that is set.
bool map(void* address, Mapping mapping) {
  const int fd = mapping.storage->fd;
  const int access = mapping.origin == Origin::kManaged ? PROT_READ | PROT_WRITE : PROT_NONE;
  const int fixed = mapping.view == nullptr ? 0 : MAP_FIXED;
  void* const view =
      ::mmap(mapping.view, mapping.length, PROT_READ | PROT_WRITE, MAP_SHARED | fixed, fd, 0);
  if (view == MAP_FAILED) return false;
  if (::mmap(address, mapping.length, access, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
    ::munmap(view, mapping.length);
    return false;
  }
  mapping.view = static_cast<std::byte*>(view);
  mapping.id = world().next++;
  world().mappings[reinterpret_cast<uintptr_t>(address)] = std::move(mapping);
  return true;
}

void unmap(uintptr_t address, bool keep_addresses) {
  const auto found = world().mappings.find(address);
  std::byte* const view = found->second.view;
  const size_t length = found->second.length;
  world().mappings.erase(found);
  if (keep_addresses) {
    ::mmap(view, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  } else {
    ::munmap(view, length);
  }
  auto* const at = reinterpret_cast<void*>(address);
  ::mmap(at, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (!keep_addresses) world().freed.emplace(length, at);
}

// The memory of another process by its handle: that process and its descriptor, which may be of
// something else here, where it has another number. -1: no memory.
int open_of(int process, int number) {
  const std::string path = "/proc/" + std::to_string(process) + "/fd/" + std::to_string(number);
  char target[64] = {};
  (void)!::readlink(path.c_str(), target, sizeof target - 1);
  const bool is_memory = std::string_view(target).starts_with("/memfd:");
  return is_memory ? ::open(path.c_str(), O_RDWR | O_CLOEXEC) : -1;
}

CuResult allocate(CUdeviceptr* pointer, size_t length, Origin origin) {
  if (length == 0) return CuResult::kInvalidValue;
  Mapping mapping;
  mapping.length = aligned(length);
  mapping.storage = std::make_shared<Storage>(mapping.length);
  mapping.storage->gpu = current_context()->gpu;
  mapping.origin = origin;
  if (mapping.storage->fd < 0) return CuResult::kOutOfMemory;
  void* const address = take_addresses(mapping.length);
  if (address == nullptr || !map(address, std::move(mapping))) return CuResult::kOutOfMemory;
  *pointer = reinterpret_cast<uintptr_t>(address);
  return CuResult::kSuccess;
}

template <typename Value>
void put(void* to, Value value) {
  std::memcpy(to, &value, sizeof value);
}

void put_attribute(const std::pair<const uintptr_t, Mapping>& found,
                   cuda::PointerAttribute attribute, void* to) {
  const auto& [begin, mapping] = found;
  switch (attribute) {
    case cuda::PointerAttribute::kMemoryType:
      return put(to, cuda::MemoryType::kDevice);
    case cuda::PointerAttribute::kSyncMemops:
      return put(to, unsigned{mapping.sync_memops});
    case cuda::PointerAttribute::kBufferId:
      return put(to, static_cast<unsigned long long>(mapping.id));
    case cuda::PointerAttribute::kIsManaged:
      return put(to, unsigned{mapping.origin == Origin::kManaged});
    case cuda::PointerAttribute::kDeviceOrdinal:
      return put(to, mapping.storage->gpu);
    case cuda::PointerAttribute::kIsLegacyIpcCapable:
      return put(to, int{mapping.origin == Origin::kLegacy});
    case cuda::PointerAttribute::kRangeStart:
      return put(to, static_cast<CUdeviceptr>(begin));
    case cuda::PointerAttribute::kRangeSize:
      return put(to, mapping.length);
    case cuda::PointerAttribute::kAllowedHandleTypes:
      return put(to, static_cast<unsigned long long>(mapping.storage->handle_types));
    case cuda::PointerAttribute::kMempool:
      return put(to, mapping.origin == Origin::kPool ? to : nullptr);
  }
}

// What is in the table of cuMemGetHandleForAddressRange's descriptor: where the bytes are.
struct Piece {
  std::byte* view;
  size_t length;
};

}  // namespace

std::pair<const uintptr_t, Mapping>* mapping_at(uintptr_t address) {
  auto found = world().mappings.upper_bound(address);
  if (found == world().mappings.begin()) return nullptr;
  --found;
  return address - found->first < found->second.length ? &*found : nullptr;
}

const std::pair<const uintptr_t, size_t>* pinned_at(uintptr_t address) {
  auto found = world().pinned.upper_bound(address);
  if (found == world().pinned.begin()) return nullptr;
  --found;
  return address - found->first < found->second ? &*found : nullptr;
}

void free_memory_of(int gpu) {
  for (auto each = world().mappings.begin(); each != world().mappings.end();) {
    const uintptr_t address = each->first;
    const Mapping& mapping = each->second;
    const bool opened = mapping.origin == Origin::kOtherProcess;
    const bool gone = (opened ? mapping.opened_by : mapping.storage->gpu) == gpu &&
                      mapping.origin != Origin::kChunk;
    ++each;
    if (gone) unmap(address, false);
  }
}

std::byte* view(const void* device_pointer) {
  std::lock_guard lock(world().mutex);
  const auto address = reinterpret_cast<uintptr_t>(device_pointer);
  const auto* found = mapping_at(address);
  return found == nullptr ? nullptr : found->second.view + (address - found->first);
}

bool syncs_memops(const void* device_pointer) {
  std::lock_guard lock(world().mutex);
  const auto* found = mapping_at(reinterpret_cast<uintptr_t>(device_pointer));
  return found != nullptr && found->second.sync_memops;
}

int pinned_ranges() {
  std::lock_guard lock(world().mutex);
  return static_cast<int>(world().pinned.size());
}

int lost_pins() {
  std::lock_guard lock(world().mutex);
  return world().counts.lost;
}

int open_ipc_handles() {
  std::lock_guard lock(world().mutex);
  int count = 0;
  for (const auto& [address, mapping] : world().mappings) {
    if (mapping.origin == Origin::kOtherProcess || mapping.storage->imported) ++count;
  }
  return count;
}

int chunk_handles() {
  std::lock_guard lock(world().mutex);
  return static_cast<int>(world().handles.size());
}

uint64_t exports() {
  std::lock_guard lock(world().mutex);
  return world().counts.exports;
}

}  // namespace te::test::fake_cuda

extern "C" {

CUresult cuMemAlloc_v2(CUdeviceptr* pointer, size_t length) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuMemAlloc");
  return allocate(pointer, length, Origin::kLegacy);
}

CUresult cuMemAllocAsync(CUdeviceptr* pointer, size_t length, CUstream) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuMemAllocAsync");
  return allocate(pointer, length, Origin::kPool);
}

CUresult cuMemAllocManaged(CUdeviceptr* pointer, size_t length, unsigned) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuMemAllocManaged");
  return allocate(pointer, length, Origin::kManaged);
}

CUresult cuMemFree_v2(CUdeviceptr pointer) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuMemFree");
  const auto found = world().mappings.find(pointer);
  const bool is_whole =
      found != world().mappings.end() &&
      (found->second.origin == Origin::kLegacy || found->second.origin == Origin::kPool ||
       found->second.origin == Origin::kManaged);
  if (!is_whole) return CuResult::kInvalidValue;
  unmap(pointer, false);
  return CuResult::kSuccess;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* length, CUdeviceptr pointer) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuMemGetAddressRange");
  const auto* found = mapping_at(pointer);
  if (found == nullptr) return CuResult::kNotFound;
  if (base != nullptr) *base = found->first;
  if (length != nullptr) *length = found->second.length;
  return CuResult::kSuccess;
}

CUresult cuMemHostAlloc(void** pointer, size_t length, unsigned) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuMemHostAlloc");
  void* const memory =
      ::mmap(nullptr, aligned(length), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return CuResult::kOutOfMemory;
  world().pinned[reinterpret_cast<uintptr_t>(memory)] = aligned(length);
  *pointer = memory;
  return CuResult::kSuccess;
}

CUresult cuMemFreeHost(void* pointer) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuMemFreeHost");
  const auto found = world().pinned.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == world().pinned.end()) return CuResult::kInvalidValue;
  ::munmap(pointer, found->second);
  world().pinned.erase(found);
  return CuResult::kSuccess;
}

// It pins the pages, so there have to be some.
CUresult cuMemHostRegister_v2(void* pointer, size_t length, unsigned) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuMemHostRegister");
  const auto begin = reinterpret_cast<uintptr_t>(pointer);
  const bool is_page = begin % kAlignment == 0 && length % kAlignment == 0 && length != 0;
  std::vector<unsigned char> pages(length / kAlignment);
  if (!is_page || ::mincore(pointer, length, pages.data()) != 0) return CuResult::kInvalidValue;
  const auto behind = world().pinned.lower_bound(begin + length);
  const bool overlaps = behind != world().pinned.begin() &&
                        std::prev(behind)->first + std::prev(behind)->second > begin;
  if (overlaps) return CuResult::kHostMemoryAlreadyRegistered;
  world().pinned[reinterpret_cast<uintptr_t>(pointer)] = length;
  return CuResult::kSuccess;
}

// Memory that is not there any more was unmapped while it was pinned.
CUresult cuMemHostUnregister(void* pointer) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuMemHostUnregister");
  const auto* pin = pinned_at(reinterpret_cast<uintptr_t>(pointer));
  std::vector<unsigned char> pages(pin == nullptr ? 0 : pin->second / kAlignment);
  if (pin != nullptr && ::mincore(pointer, pin->second, pages.data()) != 0) ++world().counts.lost;
  const bool known = world().pinned.erase(reinterpret_cast<uintptr_t>(pointer)) != 0;
  return known ? CuResult::kSuccess : CuResult::kHostMemoryNotRegistered;
}

// What is not known gets zeros, and no error.
CUresult cuPointerGetAttributes(unsigned count, te::cuda::PointerAttribute* attributes, void** data,
                                CUdeviceptr pointer) {
  FAKE_CUDA_CALL("cuPointerGetAttributes");
  const auto* found = mapping_at(pointer);
  const bool pinned = pinned_at(pointer) != nullptr;
  for (unsigned i = 0; i < count; ++i) {
    if (found != nullptr) {
      put_attribute(*found, attributes[i], data[i]);
    } else if (attributes[i] == te::cuda::PointerAttribute::kMemoryType) {
      put(data[i], pinned ? te::cuda::MemoryType::kHost : te::cuda::MemoryType::kUnknown);
    }
  }
  return CuResult::kSuccess;
}

CUresult cuPointerSetAttribute(const void* value, te::cuda::PointerAttribute attribute,
                               CUdeviceptr pointer) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuPointerSetAttribute");
  auto* found = mapping_at(pointer);
  const bool possible = found != nullptr && found->second.origin == Origin::kLegacy &&
                        attribute == te::cuda::PointerAttribute::kSyncMemops;
  if (!possible) return CuResult::kInvalidValue;
  unsigned on = 0;
  std::memcpy(&on, value, sizeof on);
  found->second.sync_memops = on != 0;
  return CuResult::kSuccess;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t length,
                     const te::cuda::MemAllocationProp* properties, uint64_t) {
  FAKE_CUDA_CALL("cuMemCreate");
  const int gpu = properties->location.id;
  const bool possible = length != 0 && length % kGranularity == 0 && gpu >= 0 &&
                        gpu < world().gpu_count &&
                        properties->location.type == te::cuda::kLocationDevice;
  if (!possible) return CuResult::kInvalidValue;
  auto storage = std::make_shared<Storage>(length);
  if (storage->fd < 0) return CuResult::kOutOfMemory;
  storage->gpu = gpu;
  storage->handle_types = properties->requested_handle_types;
  *handle = world().next++;
  world().handles[*handle] = std::move(storage);
  return CuResult::kSuccess;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  FAKE_CUDA_CALL("cuMemRelease");
  return world().handles.erase(handle) != 0 ? CuResult::kSuccess : CuResult::kInvalidValue;
}

CUresult cuMemAddressReserve(CUdeviceptr* pointer, size_t length, size_t, CUdeviceptr, uint64_t) {
  FAKE_CUDA_CALL("cuMemAddressReserve");
  if (length == 0 || length % kGranularity != 0) return CuResult::kInvalidValue;
  void* const address = take_addresses(length);
  if (address == nullptr) return CuResult::kOutOfMemory;
  auto* const view = static_cast<std::byte*>(
      ::mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  world().reservations[reinterpret_cast<uintptr_t>(address)] = {length, view};
  *pointer = reinterpret_cast<uintptr_t>(address);
  return CuResult::kSuccess;
}

CUresult cuMemAddressFree(CUdeviceptr pointer, size_t length) {
  FAKE_CUDA_CALL("cuMemAddressFree");
  const auto found = world().reservations.find(pointer);
  if (found == world().reservations.end() || found->second.length != length) {
    return CuResult::kInvalidValue;
  }
  world().freed.emplace(length, reinterpret_cast<void*>(pointer));
  ::munmap(found->second.view, length);
  world().reservations.erase(found);
  return CuResult::kSuccess;
}

CUresult cuMemMap(CUdeviceptr pointer, size_t length, size_t offset,
                  CUmemGenericAllocationHandle handle, uint64_t) {
  FAKE_CUDA_CALL("cuMemMap");
  const auto storage = world().handles.find(handle);
  auto reserved = world().reservations.upper_bound(pointer);
  const bool possible = storage != world().handles.end() && offset == 0 &&
                        length == storage->second->length &&
                        reserved != world().reservations.begin() &&
                        pointer + length <= (--reserved)->first + reserved->second.length &&
                        mapping_at(pointer) == nullptr;
  if (!possible) return CuResult::kInvalidValue;
  Mapping mapping;
  mapping.length = length;
  mapping.storage = storage->second;
  mapping.origin = Origin::kChunk;
  mapping.gpus = 0;
  mapping.view = reserved->second.view + (pointer - reserved->first);
  return map(reinterpret_cast<void*>(pointer), std::move(mapping)) ? CuResult::kSuccess
                                                                   : CuResult::kOutOfMemory;
}

CUresult cuMemUnmap(CUdeviceptr pointer, size_t length) {
  FAKE_CUDA_CALL("cuMemUnmap");
  for (CUdeviceptr at = pointer; at < pointer + length;) {
    const auto found = world().mappings.find(at);
    if (found == world().mappings.end()) return CuResult::kInvalidValue;
    at += found->second.length;
    unmap(found->first, true);
  }
  return CuResult::kSuccess;
}

CUresult cuMemSetAccess(CUdeviceptr pointer, size_t length,
                        const te::cuda::MemAccessDesc* descriptions, size_t count) {
  FAKE_CUDA_CALL("cuMemSetAccess");
  for (CUdeviceptr at = pointer; at < pointer + length;) {
    auto* found = mapping_at(at);
    if (found == nullptr || count == 0) return CuResult::kInvalidValue;
    for (size_t i = 0; i < count; ++i) {
      const unsigned gpu = 1u << descriptions[i].location.id;
      const bool access = descriptions[i].flags == te::cuda::kAccessReadWrite;
      found->second.gpus = access ? found->second.gpus | gpu : found->second.gpus & ~gpu;
    }
    at = found->first + found->second.length;
  }
  return CuResult::kSuccess;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* pointer) {
  FAKE_CUDA_CALL("cuMemRetainAllocationHandle");
  const auto* found = mapping_at(reinterpret_cast<uintptr_t>(pointer));
  if (found == nullptr || found->second.origin != Origin::kChunk) return CuResult::kInvalidValue;
  *handle = world().next++;
  world().handles[*handle] = found->second.storage;
  return CuResult::kSuccess;
}

CUresult cuMemExportToShareableHandle(void* shareable, CUmemGenericAllocationHandle handle,
                                      int type, uint64_t) {
  FAKE_CUDA_CALL("cuMemExportToShareableHandle");
  const auto found = world().handles.find(handle);
  const bool is_known = type == te::cuda::kHandlePosixFd || type == te::cuda::kHandleFabric;
  const bool possible =
      found != world().handles.end() && is_known && (found->second->handle_types & type) != 0;
  if (!possible) return CuResult::kInvalidValue;
  ++world().counts.exports;
  if (type == te::cuda::kHandleFabric) {
    te::cuda::FabricHandle fabric{};
    std::snprintf(reinterpret_cast<char*>(fabric.data), sizeof fabric.data, "fabric %d %d",
                  ::getpid(), found->second->fd);
    std::memcpy(shareable, &fabric, sizeof fabric);
    return CuResult::kSuccess;
  }
  const int fd = ::dup(found->second->fd);
  std::memcpy(shareable, &fd, sizeof fd);
  return fd < 0 ? CuResult::kOutOfMemory : CuResult::kSuccess;
}

// A descriptor comes as a pointer's value; a fabric handle is behind the pointer.
CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* handle, void* shareable,
                                        int type) {
  FAKE_CUDA_CALL("cuMemImportFromShareableHandle");
  int fd = -1;
  if (type == te::cuda::kHandleFabric) {
    const std::string text(static_cast<const char*>(shareable), sizeof(te::cuda::FabricHandle));
    int process = 0, number = -1;
    if (std::sscanf(text.c_str(), "fabric %d %d", &process, &number) != 2) {
      return CuResult::kInvalidValue;
    }
    fd = open_of(process, number);
  } else if (type == te::cuda::kHandlePosixFd) {
    fd = ::dup(static_cast<int>(reinterpret_cast<intptr_t>(shareable)));
  }
  if (fd < 0) return CuResult::kInvalidValue;
  auto storage = std::make_shared<Storage>(fd, static_cast<size_t>(::lseek(fd, 0, SEEK_END)));
  storage->handle_types = type;
  storage->imported = true;
  *handle = world().next++;
  world().handles[*handle] = std::move(storage);
  return CuResult::kSuccess;
}

// A file with the pieces of the range, for the NICs of fake_verbs.cpp.
CUresult cuMemGetHandleForAddressRange(void* handle, CUdeviceptr pointer, size_t length, int type,
                                       uint64_t flags) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuMemGetHandleForAddressRange");
  const bool possible = type == te::cuda::kRangeHandleDmaBuf && flags == 0 && length != 0 &&
                        pointer % kAlignment == 0 && length % kAlignment == 0;
  if (!possible) return CuResult::kInvalidValue;
  const int fd = ::memfd_create("fake-dmabuf", MFD_CLOEXEC);
  for (CUdeviceptr at = pointer; at < pointer + length;) {
    const auto* found = mapping_at(at);
    const bool exportable = found != nullptr && found->second.origin != Origin::kManaged;
    if (!exportable || fd < 0) {
      if (fd >= 0) ::close(fd);
      return CuResult::kInvalidValue;
    }
    const size_t begin = at - found->first;
    const Piece piece{found->second.view + begin,
                      std::min(found->second.length - begin, size_t{pointer + length - at})};
    (void)!::write(fd, &piece, sizeof piece);
    at += piece.length;
  }
  ++world().counts.exports;
  std::memcpy(handle, &fd, sizeof fd);
  return CuResult::kSuccess;
}

CUresult cuIpcGetMemHandle(te::cuda::IpcMemHandle* handle, CUdeviceptr pointer) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuIpcGetMemHandle");
  const auto* found = mapping_at(pointer);
  if (found == nullptr || found->second.origin != Origin::kLegacy) return CuResult::kInvalidValue;
  ++world().counts.exports;
  const Mapping& mapping = found->second;
  std::snprintf(handle->reserved, sizeof handle->reserved, "%d %d %zu %d", ::getpid(),
                mapping.storage->fd, mapping.length, mapping.storage->gpu);
  return CuResult::kSuccess;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* pointer, te::cuda::IpcMemHandle handle, unsigned) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuIpcOpenMemHandle");
  int process = 0, fd = -1, gpu = 0;
  size_t length = 0;
  const bool understood =
      handle.reserved[sizeof handle.reserved - 1] == 0 &&
      std::sscanf(handle.reserved, "%d %d %zu %d", &process, &fd, &length, &gpu) == 4 &&
      length != 0 && length % kAlignment == 0;
  if (!understood || process == ::getpid()) return CuResult::kInvalidContext;
  const std::string name = handle.reserved;
  for (const auto& [address, mapping] : world().mappings) {
    const bool open = mapping.ipc_name == name && mapping.opened_by == current_context()->gpu;
    if (open) return CuResult::kAlreadyMapped;
  }
  const int file = open_of(process, fd);
  if (file < 0) return CuResult::kInvalidValue;
  Mapping mapping;
  mapping.length = length;
  mapping.storage = std::make_shared<Storage>(file, length);
  mapping.storage->gpu = gpu;
  mapping.origin = Origin::kOtherProcess;
  mapping.ipc_name = name;
  mapping.opened_by = current_context()->gpu;
  mapping.gpus = 1u << mapping.opened_by;
  void* const address = take_addresses(length);
  if (address == nullptr || !map(address, std::move(mapping))) return CuResult::kOutOfMemory;
  *pointer = reinterpret_cast<uintptr_t>(address);
  return CuResult::kSuccess;
}

CUresult cuIpcCloseMemHandle(CUdeviceptr pointer) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuIpcCloseMemHandle");
  const auto found = world().mappings.find(pointer);
  const bool opened = found != world().mappings.end() &&
                      found->second.origin == Origin::kOtherProcess &&
                      found->second.opened_by == current_context()->gpu;
  if (!opened) return CuResult::kInvalidValue;
  unmap(pointer, false);
  return CuResult::kSuccess;
}

}  // extern "C"
