// Which ranges of a target its initiators may touch, and which they are touching: shared memory.
//
// The target keeps a table of ranges that initiators map for reading. Every initiator keeps a page
// of slots that its target maps for reading; each of its copying threads writes into a slot of its
// own what it touches. So an access costs no system call and no shared count, and one that died
// leaves nothing behind but its page.
//
//   access:      name the range in a slot, fence, look whether the table still has it, copy, clear
//   unregister:  take the range out of the table, fence, wait until no slot names it
//
// With both fences one of the two sees the other.
//
// Threads: any.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/memory_file.h"
#include "base/mutex.h"
#include "core/registry.h"
#include "transport/shm/message.h"

namespace te::shm {

inline constexpr uint32_t kMaxRanges = 1u << 20;

struct SharedRange {
  std::atomic<uint64_t> generation;  // 0: none here
  // Constant while the generation is.
  uint64_t address;
  uint64_t length;
  uint64_t rights;  // of initiators
};
static_assert(sizeof(SharedRange) == 32 && std::atomic<uint64_t>::is_always_lock_free);

inline constexpr size_t kTableBytes = kMaxRanges * sizeof(SharedRange);

// What one thread of an initiator touches: indices of ranges plus 1, or 0.
struct alignas(64) HazardSlot {
  static constexpr size_t kRanges = 16;
  std::array<std::atomic<uint32_t>, kRanges> ranges;
};
struct HazardPage {
  static constexpr size_t kSlots = 64;
  std::array<HazardSlot, kSlots> slots;

  bool names(uint32_t index) const;
  bool any() const;
};
static_assert(sizeof(HazardPage) == 4096);

// The target's side.
class RangeTable {
 public:
  // Nothing but closes on destruction; initiators may still have the table mapped.
  static Result<std::unique_ptr<RangeTable>> create();
  RangeTable(const RangeTable&) = delete;
  RangeTable& operator=(const RangeTable&) = delete;

  int fd() const { return file_.fd(); }
  struct Entry {
    uint64_t address = 0;
    uint64_t length = 0;
    Rights rights = Rights::kNone;
    Way way = Way::kAcross;
    int memory_file = -1;  // of one that is mapped
  };
  // kBusy when the table is full.
  Result<RangeKey> add(const Entry& entry);
  // Host memory.
  Result<RangeKey> add(const Buffer& buffer) {
    const Way way = buffer.memory_file >= 0 ? Way::kMapped : Way::kAcross;
    return add({buffer.address, buffer.length, buffer.remote, way, buffer.memory_file});
  }
  // Refuses accesses from here on. False when there is no such range.
  bool remove(const RangeKey& key);
  // Nobody names the range, which was removed, any more: its index is free again.
  void release(const RangeKey& key);
  // Refuses all accesses from here on.
  void close();

  // The memory file of a mapped range, a descriptor of the caller's own, and the range's length.
  struct File {
    Fd fd;
    uint64_t length = 0;
  };
  Result<File> file_of(uint32_t index, uint64_t generation);

 private:
  explicit RangeTable(MemoryFile file);
  SharedRange& range(uint32_t index) { return reinterpret_cast<SharedRange*>(file_.data())[index]; }

  MemoryFile file_;
  Mutex mutex_;
  std::vector<uint32_t> free_ TE_GUARDED_BY(mutex_);
  std::vector<uint64_t> removed_ TE_GUARDED_BY(mutex_);  // generation by index; 0: not removed
  uint32_t used_ TE_GUARDED_BY(mutex_) = 0;
  uint64_t next_generation_ TE_GUARDED_BY(mutex_);
  std::unordered_map<uint32_t, int> files_ TE_GUARDED_BY(mutex_);  // of mapped ranges
};

// The initiator's side: a target's table.
class RangeView {
 public:
  explicit RangeView(Mapping table) : table_(std::move(table)) {}

  // The range that `key` means while that is alive, or null. What is returned stays so while a slot
  // names it.
  const SharedRange* find(const RangeKey& key) const;

 private:
  const Mapping table_;
};

// A slot of the initiator's page, for the time of one copy.
class HazardHold {
 public:
  // `used`: which slots of `page` are taken, a bit each.
  HazardHold(HazardPage& page, std::atomic<uint64_t>& used);
  ~HazardHold();
  HazardHold(const HazardHold&) = delete;
  HazardHold& operator=(const HazardHold&) = delete;

  // False when the slot is full.
  bool name(uint32_t index);
  // What was named is seen by the target from here on.
  static void publish() { std::atomic_thread_fence(std::memory_order_seq_cst); }
  void clear();

 private:
  std::atomic<uint64_t>& used_;
  const size_t number_;
  HazardSlot& slot_;
  size_t count_ = 0;
};

}  // namespace te::shm
