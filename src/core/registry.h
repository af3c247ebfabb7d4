// The buffers of this engine, by address. Not thread-safe but for the counts inside Buffer: the
// engine guards it with a reader-writer lock.
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
#include "core/layout.h"
#include "transfer_engine/status.h"

namespace te {

struct Buffer {
  uint64_t address = 0;
  uint64_t length = 0;
  uint64_t offset = 0;  // in the segment
  std::string location;
  bool remote_accessible = true;
  int memory_file = -1;               // what it is the beginning of, where the engine allocated it
  std::map<std::string, Bytes> keys;  // transport -> what peers must show
  // Closing, and left so, as a peer still touches it; unregistering it goes on with the next call.
  bool left_closing = false;

  // Submissions that read or write it locally, and whether it is being unregistered: no new use.
  static constexpr uint32_t kClosing = 1u << 31;
  std::atomic<uint32_t> users{0};

  bool closing() const { return (users.load() & kClosing) != 0; }
  // One word for both, because the buffer may be gone as soon as the count is down: of it only the
  // address is used from there on, to wake whoever waits.
  void release() {
    if (users.fetch_sub(1) == (kClosing | 1)) users.notify_all();
  }
  // After kClosing was set: returns when nobody uses it.
  void wait_until_unused() const {
    for (uint32_t now = users.load(); now != kClosing; now = users.load()) users.wait(now);
  }
};

class Registry {
 public:
  // kAlreadyExists on an overlap, kInvalidArgument on a null, empty or wrapping range.
  Result<Buffer*> add(uint64_t address, uint64_t length, std::string location,
                      bool remote_accessible);
  void remove(Buffer* buffer);

  // The buffer that begins exactly there, or null.
  Buffer* find_exact(uint64_t address) const;
  // The buffer that holds the byte at `address`, or null.
  Buffer* find(uint64_t address) const;
  // The first buffer that ends behind `address`, or null.
  const Buffer* next_after(uint64_t address) const;

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

  std::vector<uint64_t> firsts_;  // of each leaf
  std::vector<Leaf> leaves_;
  Layout layout_;
  size_t size_ = 0;
};

// Which of this machine's `cpu_nodes` memory nodes "cpu:N" names; nothing for "*".
Result<std::optional<uint32_t>> parse_location(std::string_view location, uint32_t cpu_nodes);

}  // namespace te
