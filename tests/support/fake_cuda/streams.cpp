// Streams, events and copies, and the table of all functions.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "support/fake_cuda/fake_cuda.h"
#include "support/fake_cuda/world.h"

namespace te::test::fake_cuda {
namespace {

using Clock = std::chrono::steady_clock;

// Host memory is where it says; memory of a GPU behind its view, as far as one mapping goes.
std::byte* behind(uintptr_t address, size_t* length) {
  const auto* found = mapping_at(address);
  if (found == nullptr) return reinterpret_cast<std::byte*>(address);
  if (found->second.gpus == 0) return nullptr;
  const size_t begin = address - found->first;
  *length = std::min(*length, found->second.length - begin);
  return found->second.view + begin;
}

// With the lock. What was freed before the copy came to it is gone: the copy does nothing.
void copy_bytes(const Operation& operation) {
  for (size_t done = 0; done < operation.length;) {
    size_t length = operation.length - done;
    std::byte* const to = behind(reinterpret_cast<uintptr_t>(operation.to) + done, &length);
    const std::byte* const from =
        behind(reinterpret_cast<uintptr_t>(operation.from) + done, &length);
    if (to == nullptr || from == nullptr) return;
    std::memmove(to, from, length);
    done += length;
  }
}

// Whether a range of host memory is all of one pinned range, or of none.
bool is_one_range(uintptr_t address, size_t length) {
  return pinned_at(address) == pinned_at(address + length - 1);
}

// Whether each byte is of memory that the current GPU has access to, or of none: at its beginning
// and its end.
bool is_valid(uintptr_t address, size_t length) {
  const bool on_gpu = mapping_at(address) != nullptr;
  for (size_t done = 0; done < length;) {
    const auto* found = mapping_at(address + done);
    if ((found != nullptr) != on_gpu) return false;
    if (found == nullptr) {
      return mapping_at(address + length - 1) == nullptr && is_one_range(address, length);
    }
    if ((found->second.gpus >> current_context()->gpu & 1) == 0) return false;
    done = found->first + found->second.length - address;
  }
  return true;
}

Clock::duration time_for(size_t length) {
  auto time = std::chrono::microseconds(world().latency_us);
  if (world().bytes_per_second != 0) {
    time += std::chrono::microseconds(length * 1'000'000 / world().bytes_per_second);
  }
  return time;
}

bool is_copy(const Operation& operation) { return !operation.event && !operation.awaited; }

bool may_begin(const Operation& operation) {
  return !operation.awaited || operation.awaited->reached >= operation.records;
}

void finish(const Operation& operation) {
  if (operation.event) {
    ++operation.event->reached;
  } else if (is_copy(operation)) {
    copy_bytes(operation);
    --world().counts.under_way;
  }
  world().changed.notify_all();
}

// Until the stream is destroyed.
void work(cuda::Stream stream) {
  std::unique_lock lock(world().mutex);
  for (;;) {
    world().changed.wait(lock, [stream] { return stream->destroyed || !stream->queue.empty(); });
    if (stream->queue.empty()) break;
    const Operation operation = stream->queue.front();
    lock.unlock();
    std::this_thread::sleep_until(operation.ends);
    lock.lock();
    world().changed.wait(lock, [&operation] { return may_begin(operation); });
    stream->queue.pop_front();
    if (stream->queue.empty()) --world().counts.busy;
    finish(operation);
  }
  delete stream;
}

// It begins when those before it have ended, however late their threads are.
void enqueue(cuda::Stream stream, Operation operation) {
  const bool slow = world().latency_us != 0 || world().bytes_per_second != 0;
  if (!slow && stream->queue.empty() && may_begin(operation)) return finish(operation);
  stream->free_at = std::max(stream->free_at, Clock::now());
  if (is_copy(operation)) stream->free_at += time_for(operation.length);
  operation.ends = stream->free_at;
  Counts& counts = world().counts;
  if (stream->queue.empty()) counts.most = std::max(counts.most, ++counts.busy);
  stream->queue.push_back(operation);
  world().changed.notify_all();
  if (std::exchange(stream->has_thread, true)) return;
  std::thread([stream] { work(stream); }).detach();
}

bool is_event(cuda::Event event) { return world().events.contains(event); }

// Of the context that is current. Nothing is ever in it.
bool is_default(cuda::Stream stream) { return reinterpret_cast<uintptr_t>(stream) <= 2; }

void await_in(cuda::Stream stream, const std::shared_ptr<EventState>& event, uint64_t records) {
  Operation operation;
  operation.awaited = event;
  operation.records = records;
  enqueue(stream, operation);
}

CuResult copy_now(CUdeviceptr to, CUdeviceptr from, size_t length) {
  if (!is_valid(to, length) || !is_valid(from, length)) return CuResult::kInvalidValue;
  Operation operation;
  operation.to = reinterpret_cast<std::byte*>(to);
  operation.from = reinterpret_cast<const std::byte*>(from);
  operation.length = length;
  copy_bytes(operation);
  return CuResult::kSuccess;
}

}  // namespace

uint64_t copies() {
  std::lock_guard lock(world().mutex);
  return world().counts.copies;
}
uint64_t pageable_copies() {
  std::lock_guard lock(world().mutex);
  return world().counts.pageable;
}
uint64_t copied_bytes() {
  std::lock_guard lock(world().mutex);
  return world().counts.bytes;
}
int most_busy_streams() {
  std::lock_guard lock(world().mutex);
  return world().counts.most;
}
int copies_under_way() {
  std::lock_guard lock(world().mutex);
  return world().counts.under_way;
}
int streams() {
  std::lock_guard lock(world().mutex);
  return world().streams;
}
int events() {
  std::lock_guard lock(world().mutex);
  return static_cast<int>(world().events.size());
}

void hold(cuda::Stream stream) {
  std::lock_guard lock(world().mutex);
  stream->held = std::make_shared<EventState>();
  await_in(stream, stream->held, 1);
}
void release(cuda::Stream stream) {
  std::lock_guard lock(world().mutex);
  stream->held->reached = 1;
  world().changed.notify_all();
}

}  // namespace te::test::fake_cuda

extern "C" {

// For programs that are not in C++.
void fake_cuda_hold(CUstream stream) { te::test::fake_cuda::hold(stream); }
void fake_cuda_release(CUstream stream) { te::test::fake_cuda::release(stream); }

CUresult cuStreamCreate(CUstream* stream, unsigned) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuStreamCreate");
  *stream = new te::cuda::StreamSt;
  (*stream)->context = current_context();
  ++world().streams;
  return CuResult::kSuccess;
}

CUresult cuStreamDestroy_v2(CUstream stream) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuStreamDestroy");
  --world().streams;
  stream->destroyed = true;
  world().changed.notify_all();
  if (!stream->has_thread) delete stream;
  return CuResult::kSuccess;
}

CUresult cuStreamSynchronize(CUstream stream) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuStreamSynchronize");
  world().changed.wait(lock, [stream] { return stream->queue.empty(); });
  return CuResult::kSuccess;
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext* context) {
  FAKE_CUDA_CALL("cuStreamGetCtx");
  *context = is_default(stream) ? current_context() : stream->context;
  return *context == nullptr ? CuResult::kInvalidContext : CuResult::kSuccess;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuStreamWaitEvent");
  if (!is_event(event) || stream->context != current_context()) return CuResult::kInvalidHandle;
  await_in(stream, event->state, event->state->recorded);
  return CuResult::kSuccess;
}

CUresult cuEventCreate(CUevent* event, unsigned) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuEventCreate");
  *event = new te::cuda::EventSt;
  (*event)->context = current_context();
  world().events.insert(*event);
  return CuResult::kSuccess;
}

CUresult cuEventDestroy_v2(CUevent event) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuEventDestroy");
  if (world().events.erase(event) == 0) return CuResult::kInvalidHandle;
  event->state.reset();
  world().destroyed_events.emplace_back(event);
  return CuResult::kSuccess;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuEventRecord");
  if (!is_event(event) || event->context != current_context()) return CuResult::kInvalidHandle;
  const bool to_default = is_default(stream);
  if (!to_default && stream->context != current_context()) return CuResult::kInvalidHandle;
  ++event->state->recorded;
  Operation operation;
  operation.event = event->state;
  if (to_default) {
    finish(operation);
  } else {
    enqueue(stream, operation);
  }
  return CuResult::kSuccess;
}

CUresult cuEventQuery(CUevent event) {
  FAKE_CUDA_CALL("cuEventQuery");
  if (!is_event(event)) return CuResult::kInvalidHandle;
  if (world().gpus[event->context->gpu].holders == 0) return CuResult::kInvalidContext;
  const EventState& state = *event->state;
  return state.reached == state.recorded ? CuResult::kSuccess : CuResult::kNotReady;
}

CUresult cuEventSynchronize(CUevent event) {
  FAKE_CUDA_CALL("cuEventSynchronize");
  if (world().gpus[event->context->gpu].holders == 0) return CuResult::kInvalidContext;
  const std::shared_ptr<EventState> state = event->state;
  world().changed.wait(lock, [&state] { return state->reached == state->recorded; });
  return CuResult::kSuccess;
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t length) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuMemcpyHtoD");
  return copy_now(to, reinterpret_cast<CUdeviceptr>(from), length);
}

CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t length) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuMemcpyDtoH");
  return copy_now(reinterpret_cast<CUdeviceptr>(to), from, length);
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t length, CUstream stream) {
  FAKE_CUDA_CALL_IN_CONTEXT("cuMemcpyAsync");
  if (stream->context != current_context()) return CuResult::kInvalidHandle;
  if (!is_valid(to, length) || !is_valid(from, length)) return CuResult::kInvalidValue;
  const auto pageable = [](CUdeviceptr address) {
    return mapping_at(address) == nullptr && pinned_at(address) == nullptr;
  };
  Counts& counts = world().counts;
  ++counts.copies;
  counts.bytes += length;
  ++counts.under_way;
  Operation operation;
  operation.to = reinterpret_cast<std::byte*>(to);
  operation.from = reinterpret_cast<const std::byte*>(from);
  operation.length = length;
  enqueue(stream, operation);
  if (!pageable(to) && !pageable(from)) return CuResult::kSuccess;
  // The driver reads and writes such memory itself, in this call.
  ++counts.pageable;
  world().changed.wait(lock, [stream] { return stream->queue.empty(); });
  return CuResult::kSuccess;
}

CUresult cuGetProcAddress(const char* symbol, void** function, int, uint64_t) {
  using namespace te::test::fake_cuda;  // NOLINT(google-build-using-namespace)
  static const std::map<std::string, void*> functions = [] {
    std::map<std::string, void*> all;
#define FAKE_CUDA_FUNCTION(name, implementation) \
  all[#name] = reinterpret_cast<void*>(implementation)
    FAKE_CUDA_FUNCTION(cuInit, cuInit);
    FAKE_CUDA_FUNCTION(cuDriverGetVersion, cuDriverGetVersion);
    FAKE_CUDA_FUNCTION(cuGetErrorName, cuGetErrorName);
    FAKE_CUDA_FUNCTION(cuGetErrorString, cuGetErrorString);
    FAKE_CUDA_FUNCTION(cuDeviceGetCount, cuDeviceGetCount);
    FAKE_CUDA_FUNCTION(cuDeviceGet, cuDeviceGet);
    FAKE_CUDA_FUNCTION(cuDeviceGetName, cuDeviceGetName);
    FAKE_CUDA_FUNCTION(cuDeviceGetUuid, cuDeviceGetUuid);
    FAKE_CUDA_FUNCTION(cuDeviceGetPCIBusId, cuDeviceGetPCIBusId);
    FAKE_CUDA_FUNCTION(cuDeviceGetAttribute, cuDeviceGetAttribute);
    FAKE_CUDA_FUNCTION(cuDeviceTotalMem, cuDeviceTotalMem_v2);
    FAKE_CUDA_FUNCTION(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain);
    FAKE_CUDA_FUNCTION(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2);
    FAKE_CUDA_FUNCTION(cuDevicePrimaryCtxGetState, cuDevicePrimaryCtxGetState);
    FAKE_CUDA_FUNCTION(cuCtxPushCurrent, cuCtxPushCurrent_v2);
    FAKE_CUDA_FUNCTION(cuCtxPopCurrent, cuCtxPopCurrent_v2);
    FAKE_CUDA_FUNCTION(cuCtxGetCurrent, cuCtxGetCurrent);
    FAKE_CUDA_FUNCTION(cuMemAlloc, cuMemAlloc_v2);
    FAKE_CUDA_FUNCTION(cuMemFree, cuMemFree_v2);
    FAKE_CUDA_FUNCTION(cuMemHostRegister, cuMemHostRegister_v2);
    FAKE_CUDA_FUNCTION(cuMemHostUnregister, cuMemHostUnregister);
    FAKE_CUDA_FUNCTION(cuPointerGetAttributes, cuPointerGetAttributes);
    FAKE_CUDA_FUNCTION(cuPointerSetAttribute, cuPointerSetAttribute);
    FAKE_CUDA_FUNCTION(cuMemGetHandleForAddressRange, cuMemGetHandleForAddressRange);
    FAKE_CUDA_FUNCTION(cuMemRetainAllocationHandle, cuMemRetainAllocationHandle);
    FAKE_CUDA_FUNCTION(cuMemRelease, cuMemRelease);
    FAKE_CUDA_FUNCTION(cuMemExportToShareableHandle, cuMemExportToShareableHandle);
    FAKE_CUDA_FUNCTION(cuMemImportFromShareableHandle, cuMemImportFromShareableHandle);
    FAKE_CUDA_FUNCTION(cuMemAddressReserve, cuMemAddressReserve);
    FAKE_CUDA_FUNCTION(cuMemAddressFree, cuMemAddressFree);
    FAKE_CUDA_FUNCTION(cuMemMap, cuMemMap);
    FAKE_CUDA_FUNCTION(cuMemUnmap, cuMemUnmap);
    FAKE_CUDA_FUNCTION(cuMemSetAccess, cuMemSetAccess);
    FAKE_CUDA_FUNCTION(cuIpcGetMemHandle, cuIpcGetMemHandle);
    FAKE_CUDA_FUNCTION(cuIpcOpenMemHandle, cuIpcOpenMemHandle_v2);
    FAKE_CUDA_FUNCTION(cuIpcCloseMemHandle, cuIpcCloseMemHandle);
    FAKE_CUDA_FUNCTION(cuStreamCreate, cuStreamCreate);
    FAKE_CUDA_FUNCTION(cuStreamDestroy, cuStreamDestroy_v2);
    FAKE_CUDA_FUNCTION(cuStreamSynchronize, cuStreamSynchronize);
    FAKE_CUDA_FUNCTION(cuStreamGetCtx, cuStreamGetCtx);
    FAKE_CUDA_FUNCTION(cuStreamWaitEvent, cuStreamWaitEvent);
    FAKE_CUDA_FUNCTION(cuEventCreate, cuEventCreate);
    FAKE_CUDA_FUNCTION(cuEventDestroy, cuEventDestroy_v2);
    FAKE_CUDA_FUNCTION(cuEventRecord, cuEventRecord);
    FAKE_CUDA_FUNCTION(cuEventQuery, cuEventQuery);
    FAKE_CUDA_FUNCTION(cuEventSynchronize, cuEventSynchronize);
    FAKE_CUDA_FUNCTION(cuMemcpyAsync, cuMemcpyAsync);
#undef FAKE_CUDA_FUNCTION
    return all;
  }();
  const auto found = functions.find(symbol);
  *function = found == functions.end() ? nullptr : found->second;
  return found == functions.end() ? CuResult::kNotFound : CuResult::kSuccess;
}

}  // extern "C"
