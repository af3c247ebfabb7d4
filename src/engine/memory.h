// The local segment: registered buffers, their keys for every transport, and the description that
// peers fetch.
//
// Transports may take long to register memory: NICs pin it. So they are called outside the lock of
// the registry. A buffer is placed in the registry first, where it reserves its range and is not
// found by submissions and peers yet; it becomes ready when every transport has it. Submissions and
// descriptions wait for a bounded piece of work of others at most, however many buffers there are.
//
// barrier() keeps installing and uninstalling transports apart from registering and unregistering:
// so each transport registers each buffer once, and no key outlives its buffer.
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
#include "core/ambiguity.h"
#include "core/registry.h"
#include "engine/transports.h"
#include "platform/memory_driver.h"

namespace te {

class Memory {
 public:
  Memory(uint64_t instance, const Config& config, Transports& transports);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // All or none, also when memory runs out (kResource). A buffer that is there already, with the
  // same range, location and rights, is counted: it goes with the last of its registrations.
  Status add(std::span<const BufferEntry> buffers, std::string_view location, Access access);
  Status remove(std::span<void* const> addrs);
  // Memory that is registered from its allocation to its end, in a memory file of its own.
  Result<void*> allocate(size_t length, const AllocateOptions& options);
  // The same for the engine's own use, outside of the layout of the segment.
  Result<std::byte*> allocate_own(size_t length, Rights remote);
  Status free(void* addr);
  // Unregisters it and leaves it mapped, for the caller to unmap: so many bytes.
  Result<size_t> release(void* addr);

  // Held from before a transport is installed until introduce() returned, and from before one is
  // taken out until it stopped. Taken before mutex().
  SharedMutex& barrier() TE_RETURN_CAPABILITY(barrier_) { return barrier_; }
  // Registers what is there with a transport that was installed just now: all or none.
  Status introduce(Transport& transport) TE_REQUIRES(barrier_);
  // Gives other keys to every buffer that peers may touch. kResource: some kept theirs.
  Status renew_keys();
  // Forgets the keys of one that goes.
  void forget(Transport& transport) TE_REQUIRES(barrier_);

  // Grows with every change.
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
  std::shared_ptr<const Descriptor> descriptor();
  // For a peer with these rights: of transports that do not check them it hears only with both.
  std::shared_ptr<const Bytes> encoded_descriptor(Rights rights);

  // Null: there is no such kind.
  const MemoryDriver* driver(MemoryKind kind) const;
  // Of the buffer that contains the address; null: there is none, or it is in host memory.
  std::shared_ptr<const DeviceMemory> device_at(uint64_t address);

  // For look-ups on the way down: hold it, and pin what is found before letting go.
  SharedMutex& mutex() TE_RETURN_CAPABILITY(mutex_) { return mutex_; }
  const Registry& registry() const TE_REQUIRES_SHARED(mutex_) { return registry_; }

 private:
  using Installed = std::vector<std::shared_ptr<Transport>>;
  struct Asked;
  // Memory that was allocated and is unregistered now.
  struct Taken {
    MemoryFile file;
    bool in_use = false;  // a stopped process may still touch it
  };
  struct Described {
    std::shared_ptr<const Descriptor> descriptor;
    std::shared_ptr<const Bytes> encoded;
  };
  class Placed;
  class Keys;
  class Closing;
  class Describer;
  class Introduced;

  static constexpr size_t kBuffersAtOnce =
      128;  // buffers for which the registry's lock is held at a time
  static Status out_of_memory();

  Status add_asked(const Asked& asked);
  Result<void*> keep_allocated(MemoryFile file, Asked asked);
  Result<Taken> take_allocated(void* addr);
  Status try_to_add(const Asked& asked, bool& another_first);
  Status place(const Asked& asked, Placed& placed);
  // Whether the range is there already, and counts once more.
  Result<bool> count_again(const Asked& asked, size_t index, Placed& placed) TE_REQUIRES(mutex_);
  // Makes what peers know of buffers that hold one of these numbers invalid; see ARCHITECTURE.md.
  Status renew(const std::vector<NumberRange>& numbers);
  template <typename Wanted>
  Status renew_where(Wanted&& wanted);
  Status renew_one(Buffer& old, const Installed& transports) TE_REQUIRES(barrier_);
  static Status register_with(Buffer& buffer, Transport& transport);
  static void drop(Buffer& buffer, const Installed& transports, bool local) noexcept;
  Status remove_buffers(std::span<void* const> addrs, int64_t until_ns);
  static Status await_quiet(Buffer& buffer, const Installed& transports, int64_t until_ns);
  Status start_closing(std::span<void* const> addrs, Closing& closing);
  Status start_closing(void* addr, Closing& closing) TE_REQUIRES_SHARED(mutex_);
  // Every buffer, with the lock held for few of them at a time.
  template <typename Visit>
  void for_each_ready(Visit&& visit);
  std::shared_ptr<const Descriptor> describe_to(Rights rights) TE_REQUIRES(cache_mutex_);
  bool describe(Descriptor& result, Rights rights, bool in_one_go);
  // The next buffers, `count` at most. Whether there are more.
  bool describe_next(Describer& describer, size_t count) TE_REQUIRES_SHARED(mutex_);

  const uint64_t instance_;
  const Config& config_;
  const uint32_t cpu_nodes_;
  const std::vector<const MemoryDriver*> drivers_;
  Transports& transports_;
  SharedMutex barrier_{LockRank::kBarrier};
  SharedMutex mutex_{LockRank::kMemory};
  Registry registry_ TE_GUARDED_BY(mutex_);
  Ambiguity ambiguity_ TE_GUARDED_BY(mutex_);
  std::map<void*, MemoryFile> allocated_ TE_GUARDED_BY(mutex_);
  std::atomic<uint64_t> generation_{1};
  std::atomic<uint32_t> placements_ended_{0};  // calls that placed buffers, however they ended

  Mutex cache_mutex_{LockRank::kDescriptor};
  std::array<Described, 4> described_ TE_GUARDED_BY(cache_mutex_);  // by the rights
};

}  // namespace te
