// The CUDA driver, libcuda.so.1. It is used only where the application has loaded it, so a process
// without CUDA makes no call of it; the engine never initializes it.
//
// Threads: any. It stays open until the process ends.
#pragma once

#include <string>
#include <string_view>

#include "platform/cuda/abi.h"
#include "transfer_engine/status.h"

namespace te::cuda {

struct HostMemoryFunctions {
  CuResult (*add)(void*, size_t, unsigned flags);
  CuResult (*remove)(void*);
};

struct StreamFunctions {
  CuResult (*create)(Stream*, unsigned flags);
  CuResult (*destroy)(Stream);
  CuResult (*synchronize)(Stream);
  CuResult (*get_context)(Stream, Context*);
  CuResult (*wait_event)(Stream, Event, unsigned flags);
};

struct EventFunctions {
  CuResult (*create)(Event*, unsigned flags);
  CuResult (*destroy)(Event);
  CuResult (*record)(Event, Stream);
  CuResult (*query)(Event);
  CuResult (*synchronize)(Event);
};

// Of memory for other processes, and for NICs.
struct SharingFunctions {
  // Null before CUDA 11.7.
  CuResult (*get_handle_for_range)(void*, DevicePtr, size_t, int type, uint64_t flags);
  CuResult (*get_handle)(IpcMemHandle*, DevicePtr);
  CuResult (*open_handle)(DevicePtr*, IpcMemHandle, unsigned flags);
  CuResult (*close_handle)(DevicePtr);
  CuResult (*retain_chunk)(AllocationHandle*, void*);
  CuResult (*release_chunk)(AllocationHandle);
  CuResult (*export_chunk)(void*, AllocationHandle, int type, uint64_t flags);
  CuResult (*import_chunk)(AllocationHandle*, void*, int type);
  CuResult (*reserve)(DevicePtr*, size_t, size_t alignment, DevicePtr, uint64_t flags);
  CuResult (*free_reserved)(DevicePtr, size_t);
  CuResult (*map)(DevicePtr, size_t, size_t offset, AllocationHandle, uint64_t flags);
  CuResult (*unmap)(DevicePtr, size_t);
  CuResult (*set_access)(DevicePtr, size_t, const MemAccessDesc*, size_t count);
};

struct Library {
  CuResult (*get_error_name)(CuResult, const char**);
  CuResult (*device_get_count)(int*);
  CuResult (*device_get)(Device*, int ordinal);
  CuResult (*device_get_pci_bus_id)(char*, int length, Device);
  CuResult (*device_get_attribute)(int*, DeviceAttribute, Device);
  CuResult (*primary_context_retain)(Context*, Device);
  CuResult (*primary_context_release)(Device);
  CuResult (*primary_context_state)(Device, unsigned* flags, int* active);
  CuResult (*push_context)(Context);
  CuResult (*pop_context)(Context*);
  CuResult (*pointer_get_attributes)(unsigned, PointerAttribute*, void**, DevicePtr);
  CuResult (*pointer_set_attribute)(const void*, PointerAttribute, DevicePtr);
  HostMemoryFunctions host;
  SharingFunctions sharing;
  StreamFunctions streams;
  EventFunctions events;
  CuResult (*memcpy_async)(DevicePtr to, DevicePtr from, size_t, Stream);

  // "cuMemcpyAsync failed: CUDA_ERROR_INVALID_VALUE (1)".
  Status failed(std::string_view call, CuResult result, Code code = Code::kInternal) const;
};

// The one that this process has loaded; null: it has none, so it has no memory of a GPU. A driver
// that is too old is logged once, and counts as none.
const Library* loaded_library();

}  // namespace te::cuda
