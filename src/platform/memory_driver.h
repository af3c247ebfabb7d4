// Kinds of memory: which addresses are of a kind, and who copies the bytes there. A kind is a
// MemoryDriver in a folder of its own, and a line in memory_driver.cpp.
//
// Threads: any.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/device_memory.h"
#include "core/memory_kind.h"
#include "core/rights.h"
#include "transfer_engine/status.h"

namespace te {

class MemoryDriver;

// What is known of a range.
struct ClassifiedRange {
  const MemoryDriver* driver = nullptr;  // null: not classified yet
  Rights rights = Rights::kNone;         // of this process
  std::string location = {};  // "cuda:1"; empty: host memory, which has that of its pages
  std::shared_ptr<const DeviceMemory> device = nullptr;  // null: the processor reaches it
};

// Work of a device that ends by itself, such as kernels in a stream.
//
// Threads: one.
class DeviceWork {
 public:
  DeviceWork() = default;
  virtual ~DeviceWork() = default;
  DeviceWork(const DeviceWork&) = delete;
  DeviceWork& operator=(const DeviceWork&) = delete;
  // Whether it has ended. Never waits. An error: it failed, or nobody can tell any more.
  virtual Result<bool> has_ended() = 0;
};

class MemoryDriver {
 public:
  virtual ~MemoryDriver() = default;
  virtual MemoryKind kind() const = 0;
  // Sets what is not set yet of `found`, by range, where the range is of this kind.
  // kInvalidArgument names a range that is so in part, or that cannot be touched at all.
  virtual Status classify(std::span<const BufferEntry> ranges,
                          std::span<ClassifiedRange> found) const = 0;
  // What the event follows, and what is in the stream now; either may be null. Does not wait, and
  // uses neither after the call. kUnsupported: this process has no device of the kind.
  virtual Result<std::unique_ptr<DeviceWork>> follow(void* event, void* stream) const {
    (void)event;
    (void)stream;
    return Status(Code::kUnsupported, "this kind of memory has no events");
  }
  // Whether this process uses a device of the kind.
  virtual bool has_device() const { return false; }
  // Such a device, as the memory of no buffer, to copy between host memory and blocks that it
  // opens. It is held for as long as they are open. kUnsupported: there is none.
  virtual Result<std::shared_ptr<const DeviceMemory>> any_device() const {
    return Status(Code::kUnsupported, "this kind of memory has no devices");
  }
  // Host memory, pinned or not, in one range or several, that is about to be unmapped.
  virtual void unpin(std::byte* begin, size_t length) const {
    (void)begin;
    (void)length;
  }
};

// The kinds of this process. Host memory is last: it is what no other kind claims.
std::vector<const MemoryDriver*> memory_drivers();
// Drivers that are there for some time only. Engines that were made meanwhile are gone before
// `driver` is removed.
void add_memory_driver(const MemoryDriver& driver);
void remove_memory_driver(const MemoryDriver& driver);

// By all of them; see MemoryDriver::unpin().
void unpin(std::byte* begin, size_t length) noexcept;

// By the first kind that has devices in this process; see MemoryDriver::follow().
Result<std::unique_ptr<DeviceWork>> follow(void* event, void* stream);

// What each range is. kInvalidArgument names the first that is not accessible, or of two kinds.
Result<std::vector<ClassifiedRange>> classify(std::span<const MemoryDriver* const> drivers,
                                              std::span<const BufferEntry> ranges);

}  // namespace te
