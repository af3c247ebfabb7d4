#include "platform/memory_driver.h"

#include <array>

#include "base/mutex.h"
#include "platform/cuda/cuda_memory.h"
#include "platform/host_memory.h"

namespace te {
namespace {

// Those of this build, host memory last.
std::array<const MemoryDriver*, 2> built_in() {
  return {
      &cuda::cuda_memory(),
      &host_memory(),
  };
}

struct Added {
  Mutex mutex;
  std::vector<const MemoryDriver*> drivers TE_GUARDED_BY(mutex);
};

// Never destroyed: engines are made until the process ends.
Added& added() {
  static Added& all = *new Added;
  return all;
}

}  // namespace

std::vector<const MemoryDriver*> memory_drivers() {
  const auto own = built_in();
  std::vector<const MemoryDriver*> all(own.begin(), own.end());
  MutexLock lock(added().mutex);
  all.insert(all.begin(), added().drivers.begin(), added().drivers.end());
  return all;
}

void add_memory_driver(const MemoryDriver& driver) {
  MutexLock lock(added().mutex);
  added().drivers.push_back(&driver);
}

void remove_memory_driver(const MemoryDriver& driver) {
  MutexLock lock(added().mutex);
  std::erase(added().drivers, &driver);
}

void unpin(std::byte* begin, size_t length) noexcept {
  for (const MemoryDriver* driver : built_in()) driver->unpin(begin, length);
  MutexLock lock(added().mutex);
  for (const MemoryDriver* driver : added().drivers) driver->unpin(begin, length);
}

Result<std::unique_ptr<DeviceWork>> follow(void* event, void* stream) {
  Status why;
  for (const MemoryDriver* driver : memory_drivers()) {
    if (driver->kind() == MemoryKind::kHost) continue;
    Result<std::unique_ptr<DeviceWork>> work = driver->follow(event, stream);
    if (work.ok() || work.code() != Code::kUnsupported) return work;
    why = work.status();
  }
  return why;
}

Result<std::vector<ClassifiedRange>> classify(std::span<const MemoryDriver* const> drivers,
                                              std::span<const BufferEntry> ranges) {
  std::vector<ClassifiedRange> found(ranges.size());
  for (const MemoryDriver* driver : drivers) {
    TE_RETURN_IF_ERROR(driver->classify(ranges, found));
  }
  return found;
}

}  // namespace te
