// What a test may do to the GPUs of this CUDA driver of its own making: a libcuda.so.1 for machines
// without any. A program that is linked to it has that driver, as one that is linked to NVIDIA's.
//
// The bytes of the memory of a GPU lie in a memory file. A device pointer is a range of addresses
// without any access, so whoever touches it with plain instructions ends with SIGSEGV. Copies go
// through a second mapping of the file, which view() returns.
//
// In the environment: FAKE_CUDA_GPUS (2 if not set); FAKE_CUDA_NO_DMABUF, with which no GPU says
// that it exports one; FAKE_CUDA_UNORDERED, as see_writes_of_nics(false) from cuInit on;
// FAKE_CUDA_FAIL, a function that fails from cuInit on; and FAKE_CUDA_ABORT, with which cuInit ends
// the process.
//
// Threads: any.
#pragma once

#include <cstddef>
#include <cstdint>

#include "platform/cuda/abi.h"

namespace te::test::fake_cuda {

// All of the below as at the beginning, but for contexts and memory.
void reset();

// Where the processor sees the byte at a device pointer; null: nothing is there.
std::byte* view(const void* device_pointer);

// Of that function ("cuMemcpyAsync"), since reset(); null: of all of them.
uint64_t calls(const char* function);
// From the call after so many others on, the function fails so; kSuccess: not any more.
void fail(const char* function, cuda::CuResult result, uint64_t after = 0);

// Copies take so long on each stream from now on; 0 and 0: they are done before the call returns.
// The bytes are read and written at the end of that time.
void slow_down(int64_t latency_us, uint64_t bytes_per_second);

// Puts something into the stream that ends with release(), as a kernel would that runs until then.
void hold(cuda::Stream stream);
void release(cuda::Stream stream);

// As CUDA_VISIBLE_DEVICES does: from now on GPU 0 is that of the machine, and others follow it.
void show_from(int gpu_of_machine);

// Whether GPUs say that they see what NICs wrote without a flush.
void see_writes_of_nics(bool on);

// Of the GPU: whether it has a primary context, how many holders that has, how many there were.
bool has_context(int gpu);
int context_holders(int gpu);
int contexts_made(int gpu);

// Since reset().
uint64_t copies();
uint64_t pageable_copies();  // with host memory that was not pinned
uint64_t copied_bytes();
int most_busy_streams();  // at the same time, where copies take time
int copies_under_way();   // now
// Host ranges that are pinned now, streams and events that are there now.
int pinned_ranges();
// Ranges that were unmapped while they were pinned, since reset().
int lost_pins();
int streams();
int events();
// Allocations and chunks of other processes that are open now.
int open_ipc_handles();
// Handles of chunks that were not released, now.
int chunk_handles();
// Exports of memory as descriptors, since reset().
uint64_t exports();
// Whether SYNC_MEMOPS was set for the allocation at that pointer.
bool syncs_memops(const void* device_pointer);

}  // namespace te::test::fake_cuda
