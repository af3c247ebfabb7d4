// The local segment: registered buffers, their keys for every transport, and the description that
// peers fetch.
//
// Threads: any.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/memory_file.h"
#include "base/mutex.h"
#include "core/registry.h"
#include "engine/transports.h"

namespace te {

class Memory {
 public:
  Memory(uint64_t instance, const Config& config, Transports& transports);

  Status add(std::span<const BufferEntry> buffers, std::string_view location,
             bool remote_accessible);
  Status remove(std::span<void* const> addrs);
  // Memory that is registered from its allocation to its end, in a memory file of its own.
  Result<void*> allocate(size_t length, const AllocateOptions& options);
  Status free(void* addr);

  // Registers what is there with a transport that was installed just now.
  Status introduce(Transport& transport);
  // Forgets the keys of one that goes.
  void forget(Transport& transport);

  // Grows with every change.
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
  std::shared_ptr<const Descriptor> descriptor();
  std::shared_ptr<const Bytes> encoded_descriptor();

  // For look-ups on the way down: hold it, and pin what is found before letting go.
  SharedMutex& mutex() TE_RETURN_CAPABILITY(mutex_) { return mutex_; }
  const Registry& registry() const TE_REQUIRES_SHARED(mutex_) { return registry_; }

 private:
  Status add_one(const BufferEntry& entry, std::string_view location, bool remote_accessible,
                 int memory_file) TE_REQUIRES(mutex_);
  Status remove_buffers(std::span<void* const> addrs, int64_t until_ns);
  Result<std::vector<Buffer*>> close_buffers(std::span<void* const> addrs);
  Status await_quiet(Buffer& buffer, int64_t until_ns);
  void drop(Buffer& buffer, bool local);

  const uint64_t instance_;
  const Config& config_;
  const uint32_t cpu_nodes_;
  Transports& transports_;
  SharedMutex mutex_;
  Registry registry_ TE_GUARDED_BY(mutex_);
  std::map<void*, MemoryFile> allocated_ TE_GUARDED_BY(mutex_);
  std::atomic<uint64_t> generation_{1};

  Mutex cache_mutex_;
  std::shared_ptr<const Descriptor> descriptor_ TE_GUARDED_BY(cache_mutex_);
  std::shared_ptr<const Bytes> encoded_ TE_GUARDED_BY(cache_mutex_);
};

}  // namespace te
