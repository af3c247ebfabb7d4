// The limits of moves on one machine: blocks copied by one or more threads, with memcpy or, between
// processes, by the kernel (process_vm_readv, process_vm_writev).
//
// Threads: the main thread calls; the copying threads are there while run() is.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>

#include "histogram.h"
#include "transfer_engine/status.h"
#include "transfer_engine/types.h"

namespace te::bench {

// Copies the `length` bytes at `offset`; called by several threads.
using CopyBlock = std::function<Status(uint64_t offset, uint64_t length)>;

CopyBlock memcpy_block(std::byte* to, const std::byte* from);
// Between `here` and `there` in process `pid`; a write goes there.
CopyBlock process_vm_block(pid_t pid, Opcode opcode, std::byte* here, uint64_t there);

class Copies {
 public:
  // Blocks of `block_size` in rotation over `size` bytes.
  Copies(CopyBlock copy, uint64_t block_size, uint64_t size)
      : copy_(std::move(copy)), block_size_(block_size), blocks_(size / block_size) {}

  // `threads` threads, each of which copies every `threads`-th block, for `window`; GB/s. No block
  // is ever copied by two threads at once.
  Result<double> run(size_t threads, std::chrono::milliseconds window);
  // The best of 1, 2, 4, ... threads, up to the machine's cores.
  Result<double> best(std::chrono::milliseconds window);
  // As many threads as there are cores, which share each batch of `batch` blocks and meet at its
  // end, as those of an engine do; GB/s.
  Result<double> run_in_batches(uint64_t batch, std::chrono::milliseconds window);
  // One block after the other; the time of each goes to `block_ns`.
  Status time_blocks(std::chrono::milliseconds window, tool::Histogram& block_ns);

  // How far in rotation every block was copied: bytes, counting on past the end of the memory.
  uint64_t copied_bytes() const { return next_ * block_size_; }

 private:
  Status copy(uint64_t number) { return copy_(number % blocks_ * block_size_, block_size_); }

  const CopyBlock copy_;
  const uint64_t block_size_;
  const uint64_t blocks_;
  uint64_t next_ = 0;  // counts on; the block is that modulo blocks_
};

}  // namespace te::bench
