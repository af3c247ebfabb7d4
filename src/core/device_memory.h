// Memory of one buffer that the processor does not reach. Each kind has a driver in platform/.
//
// Threads: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/fd.h"
#include "core/memory_kind.h"
#include "transfer_engine/status.h"

namespace te {

struct MemoryCopy {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  size_t length = 0;
};

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

// Pages that NICs may import.
struct ExportedRange {
  Fd descriptor;       // a dmabuf, for as long as somebody imports it
  uint64_t begin = 0;  // the address of its first byte
};

// Holds what its copies take, such as a context of the GPU, until it ends.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual MemoryKind kind() const = 0;
  // Of its device: "0000:4b:00.0"; empty: not known.
  virtual std::string pci_address() const { return {}; }
  // Begins to copy ranges. Each begins or ends in this memory; its other end is accessible host
  // memory, or other memory of this kind. This outlives the answer. An error: nothing was begun.
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
  // The pages that hold the range. kUnsupported, with the reason: NICs do not reach them.
  virtual Result<ExportedRange> export_range(const std::byte* begin, size_t length) const {
    (void)begin;
    (void)length;
    return Status(Code::kUnsupported, "this kind of memory cannot be exported");
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
