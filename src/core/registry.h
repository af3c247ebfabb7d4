// The buffers of this engine, by address. Not thread-safe but for the counts inside Buffer: the
// engine guards it with a reader-writer lock. add() may throw and has then changed nothing; nothing
// else throws.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "core/device_memory.h"
#include "core/layout.h"
#include "core/memory_kind.h"
#include "core/rights.h"
#include "transfer_engine/status.h"

namespace te {

struct Buffer {
  uint64_t address = 0;
  uint64_t length = 0;
  uint64_t offset = 0;  // in the segment
  std::string location;
  MemoryKind kind = MemoryKind::kHost;
  Rights remote = Rights::kBoth;               // of peers
  Rights local = Rights::kBoth;                // of this process, as its page tables say
  std::shared_ptr<const DeviceMemory> device;  // null: host memory
  int memory_file = -1;  // what it is the beginning of, where the engine allocated it
  std::map<std::string, Bytes, std::less<>> keys;  // transport -> what peers must show
  // What this one took the place of, for the same range, while that is still in use.
  std::unique_ptr<Buffer> replaced;
  // How often it was registered, and is to be unregistered: the range is in use as often.
  std::atomic<uint32_t> registrations{1};
  const void* registrar = nullptr;  // the call that registers it, while that is under way
  // Closing, and left so, as a peer still touches it; unregistering it goes on with the next call.
  std::atomic<bool> left_closing{false};

  // Submissions that read or write it locally, and its state. While it is being registered its keys
  // belong to the thread that does it; while one of the two bits is set there is no new use.
  static constexpr uint32_t kClosing = 1u << 31;      // being unregistered
  static constexpr uint32_t kRegistering = 1u << 30;  // not with every transport yet
  std::atomic<uint32_t> users{0};

  bool closing() const { return (users.load() & kClosing) != 0; }
  bool registering() const { return (users.load() & kRegistering) != 0; }
  bool unused() const { return users.load() == kClosing; }
  bool ready() const { return (users.load() & (kClosing | kRegistering)) == 0; }
  // No new uses from here on; false when it is not ready.
  bool close() {
    uint32_t now = users.load();
    while ((now & (kClosing | kRegistering)) == 0) {
      if (users.compare_exchange_weak(now, now | kClosing)) return true;
    }
    return false;
  }
  // One use more, until release(); false when it is not ready. Under the engine's lock.
  bool pin() {
    if ((users.fetch_add(1) & (kClosing | kRegistering)) == 0) return true;
    release();
    return false;
  }
  // One word for both, because the buffer may be gone as soon as the count is down: of it only the
  // address is used from there on, to wake whoever waits.
  void release() {
    if (users.fetch_sub(1) == (kClosing | 1)) users.notify_all();
  }
  // Takes one registration away, unless it is the last.
  bool forget_one() {
    uint32_t now = registrations.load();
    while (now > 1) {
      if (registrations.compare_exchange_weak(now, now - 1)) return true;
    }
    return false;
  }
  // After kClosing was set: returns when nobody uses it.
  void wait_until_unused() const {
    for (uint32_t now = users.load(); now != kClosing; now = users.load()) users.wait(now);
  }
};

class Registry {
 public:
  // kAlreadyExists on an overlap, kInvalidArgument on a null, empty or wrapping range. `own`: it is
  // the engine's, and has no place in the layout of the segment.
  Result<Buffer*> add(uint64_t address, uint64_t length, std::string location, Rights remote,
                      bool own = false);
  void remove(Buffer* buffer);
  // `fresh` takes the place of `buffer`, whose range it has. What was there before.
  std::unique_ptr<Buffer> replace(Buffer* buffer, std::unique_ptr<Buffer> fresh);

  // The buffer that begins exactly there, or null.
  Buffer* find_exact(uint64_t address) const;
  // The buffer that holds the byte at `address`, or null.
  Buffer* find(uint64_t address) const;
  // The first buffer that ends behind `address`, or null.
  Buffer* next_after(uint64_t address) const;

  size_t size() const { return size_; }
  uint64_t layout_end() const { return layout_.end(); }
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (const Leaf& leaf : leaves_) {
      for (const std::unique_ptr<Buffer>& buffer : leaf.buffers) visit(*buffer);
    }
  }

 private:
  // Sorted leaves of at most kLeafSize sorted buffers: look-ups touch two short arrays, and an
  // insertion moves little.
  static constexpr size_t kLeafSize = 512;
  struct Leaf {
    std::vector<uint64_t> addresses;
    std::vector<std::unique_ptr<Buffer>> buffers;
  };

  size_t leaf_index(uint64_t address) const;
  // Where `address` is, or would be, in the leaf.
  static size_t place_in(const Leaf& leaf, uint64_t address);
  // Room for another address in one of the leaves, so that nothing throws later; its index.
  size_t make_room(uint64_t address);

  std::vector<uint64_t> firsts_;  // of each leaf
  std::vector<Leaf> leaves_;
  Layout layout_;
  size_t size_ = 0;
};

// Which of this machine's `cpu_nodes` memory nodes "cpu:N" names; nothing for "*", and for
// "cuda:N", which takes memory of that kind to be among `kinds`.
Result<std::optional<uint32_t>> parse_location(std::string_view location, uint32_t cpu_nodes,
                                               MemoryKinds kinds = {MemoryKind::kHost});

}  // namespace te
