// The part of the CUDA driver's binary interface that the engine uses: no CUDA header is needed to
// build it. Types and numbers are those of libcuda.so.1, of all its versions since CUDA 11.7.
#pragma once

#include <cstddef>
#include <cstdint>

namespace te::cuda {

enum class CuResult : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kDeinitialized = 4,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidContext = 201,
  kAlreadyMapped = 208,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kHostMemoryAlreadyRegistered = 712,
  kHostMemoryNotRegistered = 713,
  kNotSupported = 801,
};

using Device = int;  // an ordinal's handle
using DevicePtr = unsigned long long;
struct CtxSt;
struct StreamSt;
struct EventSt;
using Context = CtxSt*;
using Stream = StreamSt*;
using Event = EventSt*;
using MemoryPool = void*;
using AllocationHandle = unsigned long long;

struct Uuid {
  unsigned char bytes[16];
};
struct IpcMemHandle {
  char reserved[64];
};
struct FabricHandle {
  unsigned char data[64];
};

enum class PointerAttribute : int {
  kMemoryType = 2,     // unsigned: MemoryType; 0: the driver does not know the pointer
  kSyncMemops = 6,     // unsigned, as a flag
  kBufferId = 7,       // unsigned long long, of the allocation; never used again in the process
  kIsManaged = 8,      // unsigned, as a flag
  kDeviceOrdinal = 9,  // int
  kIsLegacyIpcCapable = 10,  // int, as a flag
  kRangeStart = 11,          // DevicePtr
  kRangeSize = 12,           // size_t
  kAllowedHandleTypes = 14,  // unsigned long long, of kHandlePosixFd and kHandleFabric
  kMempool = 17,             // MemoryPool; null: of none
};

enum class MemoryType : unsigned { kUnknown = 0, kHost = 1, kDevice = 2 };

enum class DeviceAttribute : int {
  kVirtualMemoryManagement = 102,
  kGpuDirectRdma = 116,
  kGpuDirectRdmaFlushOptions = 117,
  kGpuDirectRdmaWritesOrdering = 118,
  kDmaBuf = 124,
  kFabricHandles = 128,
};

// Of kGpuDirectRdmaWritesOrdering: the GPU sees what NICs wrote without a flush.
inline constexpr int kOrderedForOwner = 100;

inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventBlockingSync = 1;
inline constexpr unsigned kEventDisableTiming = 2;
inline constexpr unsigned kHostRegisterPortable = 1;
inline constexpr int kRangeHandleDmaBuf = 1;
inline constexpr unsigned kIpcLazyPeerAccess = 1;

// Memory that is created, and mapped, in chunks.
struct MemLocation {
  int type;  // kLocationDevice
  int id;
};
inline constexpr int kLocationDevice = 1;
inline constexpr int kHandlePosixFd = 1;
inline constexpr int kHandleFabric = 8;  // as of CUDA 12.4
struct MemAllocationProp {
  int type;  // kAllocationPinned
  int requested_handle_types;
  MemLocation location;
  void* win32_meta_data;
  struct {
    unsigned char compression_type;
    unsigned char gpu_direct_rdma_capable;
    unsigned short usage;
    unsigned char reserved[4];
  } flags;
};
inline constexpr int kAllocationPinned = 1;
struct MemAccessDesc {
  MemLocation location;
  int flags;  // kAccessReadWrite
};
inline constexpr int kAccessReadWrite = 3;

}  // namespace te::cuda
