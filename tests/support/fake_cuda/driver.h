// The functions that applications call, as cuda.h declares them. The names, too, are the driver's.
#pragma once

#include "platform/cuda/abi.h"

// NOLINTBEGIN(readability-identifier-naming)
extern "C" {

using CUresult = te::cuda::CuResult;
using CUdevice = te::cuda::Device;
using CUcontext = te::cuda::Context;
using CUstream = te::cuda::Stream;
using CUevent = te::cuda::Event;
using CUdeviceptr = te::cuda::DevicePtr;
using CUmemGenericAllocationHandle = te::cuda::AllocationHandle;

CUresult cuInit(unsigned flags);
CUresult cuDriverGetVersion(int* version);
CUresult cuGetErrorName(CUresult result, const char** name);
CUresult cuGetErrorString(CUresult result, const char** text);
// hold() and release() of fake_cuda.h.
void fake_cuda_hold(CUstream stream);
void fake_cuda_release(CUstream stream);

CUresult cuGetProcAddress(const char* symbol, void** function, int version, uint64_t flags);

CUresult cuDeviceGetCount(int* count);
CUresult cuDeviceGet(CUdevice* device, int ordinal);
CUresult cuDeviceGetName(char* name, int length, CUdevice device);
CUresult cuDeviceGetUuid(te::cuda::Uuid* uuid, CUdevice device);
CUresult cuDeviceGetPCIBusId(char* id, int length, CUdevice device);
CUresult cuDeviceGetAttribute(int* value, te::cuda::DeviceAttribute attribute, CUdevice device);
CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device);

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device);
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device);
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active);
CUresult cuCtxPushCurrent_v2(CUcontext context);
CUresult cuCtxPopCurrent_v2(CUcontext* context);
CUresult cuCtxGetCurrent(CUcontext* context);

CUresult cuMemAlloc_v2(CUdeviceptr* pointer, size_t length);
CUresult cuMemAllocAsync(CUdeviceptr* pointer, size_t length, CUstream stream);
CUresult cuMemAllocManaged(CUdeviceptr* pointer, size_t length, unsigned flags);
CUresult cuMemFree_v2(CUdeviceptr pointer);
CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* length, CUdeviceptr pointer);
CUresult cuMemHostAlloc(void** pointer, size_t length, unsigned flags);
CUresult cuMemFreeHost(void* pointer);
CUresult cuMemHostRegister_v2(void* pointer, size_t length, unsigned flags);
CUresult cuMemHostUnregister(void* pointer);
CUresult cuPointerGetAttributes(unsigned count, te::cuda::PointerAttribute* attributes, void** data,
                                CUdeviceptr pointer);
CUresult cuPointerSetAttribute(const void* value, te::cuda::PointerAttribute attribute,
                               CUdeviceptr pointer);

CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t length,
                     const te::cuda::MemAllocationProp* properties, uint64_t flags);
CUresult cuMemRelease(CUmemGenericAllocationHandle handle);
CUresult cuMemAddressReserve(CUdeviceptr* pointer, size_t length, size_t alignment,
                             CUdeviceptr address, uint64_t flags);
CUresult cuMemAddressFree(CUdeviceptr pointer, size_t length);
CUresult cuMemMap(CUdeviceptr pointer, size_t length, size_t offset,
                  CUmemGenericAllocationHandle handle, uint64_t flags);
CUresult cuMemUnmap(CUdeviceptr pointer, size_t length);
CUresult cuMemSetAccess(CUdeviceptr pointer, size_t length,
                        const te::cuda::MemAccessDesc* descriptions, size_t count);
CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* pointer);
CUresult cuMemExportToShareableHandle(void* shareable, CUmemGenericAllocationHandle handle,
                                      int type, uint64_t flags);
CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* handle, void* shareable,
                                        int type);
CUresult cuMemGetHandleForAddressRange(void* handle, CUdeviceptr pointer, size_t length, int type,
                                       uint64_t flags);
CUresult cuIpcGetMemHandle(te::cuda::IpcMemHandle* handle, CUdeviceptr pointer);
CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* pointer, te::cuda::IpcMemHandle handle, unsigned flags);
CUresult cuIpcCloseMemHandle(CUdeviceptr pointer);

CUresult cuStreamCreate(CUstream* stream, unsigned flags);
CUresult cuStreamDestroy_v2(CUstream stream);
CUresult cuStreamSynchronize(CUstream stream);
CUresult cuStreamGetCtx(CUstream stream, CUcontext* context);
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags);
CUresult cuEventCreate(CUevent* event, unsigned flags);
CUresult cuEventDestroy_v2(CUevent event);
CUresult cuEventRecord(CUevent event, CUstream stream);
CUresult cuEventQuery(CUevent event);
CUresult cuEventSynchronize(CUevent event);
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t length);
CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t length);
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t length, CUstream stream);

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
