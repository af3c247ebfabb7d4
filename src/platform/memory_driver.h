// Kinds of memory: which addresses are of a kind, and how bytes get from there to host memory and
// back. A kind is a MemoryDriver in a folder of its own, and a line in memory_driver.cpp.
//
// Threads: any.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "core/memory_kind.h"
#include "core/rights.h"
#include "transfer_engine/status.h"

namespace te {

class MemoryDriver;

// What is known of a range.
struct ClassifiedRange {
  const MemoryDriver* driver = nullptr;  // null: not classified yet
  Rights rights = Rights::kNone;         // of this process
};

class MemoryDriver {
 public:
  virtual ~MemoryDriver() = default;
  virtual MemoryKind kind() const = 0;
  // Sets what is not set yet of `found`, by range, where the range is of this kind.
  // kInvalidArgument names a range that is so in part, or that cannot be touched at all.
  virtual Status classify(std::span<const BufferEntry> ranges,
                          std::span<ClassifiedRange> found) const = 0;
  // Copies between memory of this kind, in one range that was classified, and host memory. Returns
  // when the bytes are in place. An error says why nothing is known of them.
  virtual Status copy_to_host(std::byte* host, const std::byte* from, size_t length) const = 0;
  virtual Status copy_from_host(std::byte* to, const std::byte* host, size_t length) const = 0;
};

// The kinds of this process. Host memory is last: it is what no other kind claims.
std::vector<const MemoryDriver*> memory_drivers();
// Drivers that are there for some time only. Engines that were made meanwhile are gone before
// `driver` is removed.
void add_memory_driver(const MemoryDriver& driver);
void remove_memory_driver(const MemoryDriver& driver);

// What each range is. kInvalidArgument names the first that is not accessible, or of two kinds.
Result<std::vector<ClassifiedRange>> classify(std::span<const MemoryDriver* const> drivers,
                                              std::span<const BufferEntry> ranges);

}  // namespace te
