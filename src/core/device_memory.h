// Memory of one buffer that the processor does not reach, or of none: then it is a device that
// copies between host memory and blocks that it opens. Each kind has a driver in platform/.
//
// Threads: any.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "core/memory_kind.h"
#include "transfer_engine/status.h"

namespace te {

struct MemoryCopy {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  size_t length = 0;
};

// One that goes on where the last one ends, at both ends, is part of it.
inline void add_copy(std::vector<MemoryCopy>& copies, const MemoryCopy& copy) {
  if (!copies.empty()) {
    MemoryCopy& last = copies.back();
    if (last.to + last.length == copy.to && last.from + last.length == copy.from) {
      last.length += copy.length;
      return;
    }
  }
  copies.push_back(copy);
}

// Copies under way.
class PendingCopies {
 public:
  PendingCopies() = default;
  // After wait().
  virtual ~PendingCopies() = default;
  PendingCopies(const PendingCopies&) = delete;
  PendingCopies& operator=(const PendingCopies&) = delete;
  // Returns when all bytes are in place, or, with an error, when nothing copies any more. An error
  // says why; nothing is known of the bytes then.
  virtual Status wait() = 0;
};

// Pages that NICs may reach.
struct ExportedRange {
  Fd descriptor;       // a dmabuf, for as long as somebody imports it
  uint64_t begin = 0;  // the address of its first byte
  std::string
      no_dmabuf{};  // why there is no descriptor: a NIC may know their addresses all the same
};

// What other processes of this host open as a whole: an allocation, or a chunk of one.
struct MemoryBlock {
  uint64_t begin = 0;  // its address
  uint64_t length = 0;
  uint64_t id = 0;  // of its bytes in this process: never used again

  uint64_t end() const { return begin + length; }
};

// What another process opens a block with.
struct BlockHandle {
  uint32_t type = 0;  // of the driver's kinds of handles, whose numbers peers know
  Fd descriptor;      // not valid: the bytes say all
  std::array<uint8_t, 64> bytes{};
};

// A block that was opened: copies reach it for as long as this lives. Closed with this.
class OpenedBlock {
 public:
  OpenedBlock() = default;
  virtual ~OpenedBlock() = default;
  OpenedBlock(const OpenedBlock&) = delete;
  OpenedBlock& operator=(const OpenedBlock&) = delete;

  // Where its first byte is in this process.
  virtual std::byte* data() const = 0;
  // Keeps it open while copies run. Null: it was closed, since what opened it has ended.
  virtual std::shared_ptr<const void> use() const = 0;
  // As DeviceMemory's; for a block of this process.
  virtual Status check() const { return {}; }
};

// Holds what its copies take, such as a context of the GPU, until it ends.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual MemoryKind kind() const = 0;
  // Of its device: "0000:4b:00.0"; empty: not known.
  virtual std::string pci_address() const { return {}; }
  // What copies this memory: the same for all memory of one GPU.
  virtual const void* copier() const { return this; }
  // Begins to copy ranges. Each begins or ends in this memory, or in a block that this opened; its
  // other end is accessible host memory, or other memory of this kind. Of pinned memory it is in
  // one range that was pinned. This outlives the answer. An error: nothing was begun.
  virtual Result<std::unique_ptr<PendingCopies>> start(
      std::span<const MemoryCopy> copies) const = 0;
  // The same, and waits for the end.
  Status copy(std::span<const MemoryCopy> copies) const {
    const Result<std::unique_ptr<PendingCopies>> pending = start(copies);
    return pending.ok() ? (*pending)->wait() : pending.status();
  }
  // kInvalidArgument, with the reason, where the range is no longer the memory that was registered.
  virtual Status check(const std::byte* begin, size_t length) const {
    (void)begin;
    (void)length;
    return {};
  }
  // The device is that of the calling thread until the answer ends, on the same thread: for
  // libraries that call the device's driver themselves.
  virtual std::shared_ptr<const void> make_current() const { return nullptr; }
  // The pages that hold the range. kUnsupported, with the reason: no NIC may have them.
  virtual Result<ExportedRange> export_range(const std::byte* begin, size_t length) const {
    (void)begin;
    (void)length;
    return Status(Code::kUnsupported, "this kind of memory cannot be exported");
  }
  // The blocks that the memory lies in, ascending, without gaps. kUnsupported, with the reason:
  // other processes cannot open them.
  virtual Result<std::vector<MemoryBlock>> blocks() const {
    return Status(Code::kUnsupported, "this kind of memory cannot be opened by other processes");
  }
  // One of blocks(). kInvalidArgument as of check(); kUnsupported: the driver refuses.
  virtual Result<BlockHandle> export_block(const MemoryBlock& block) const {
    (void)block;
    return Status(Code::kUnsupported, "this kind of memory cannot be opened by other processes");
  }
  // A block of another process, of so many bytes at least: copies between it and memory with the
  // same copier() are possible then. The handle may be anything. Takes milliseconds.
  virtual Result<std::shared_ptr<const OpenedBlock>> open_block(const BlockHandle& handle,
                                                                uint64_t length) const {
    (void)handle;
    (void)length;
    return Status(Code::kUnsupported, "this kind of memory cannot be opened");
  }
  // The same for memory of this process, where nothing has to be opened.
  virtual Result<std::shared_ptr<const OpenedBlock>> own_block(uint64_t begin,
                                                               uint64_t length) const {
    (void)begin;
    (void)length;
    return Status(Code::kUnsupported, "this kind of memory cannot be opened");
  }
  // Pins that host memory, page-aligned, which makes copies with it faster and lets them run beside
  // others. It stays so, best kept for the next copies, until MemoryDriver::unpin(); the answer
  // must live as long as copies with it run.
  virtual std::shared_ptr<const void> pin(std::byte* host, size_t length) const {
    (void)host;
    (void)length;
    return nullptr;
  }
};

}  // namespace te
