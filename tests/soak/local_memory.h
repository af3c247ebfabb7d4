// The local memory of one writer: slots that requests send from and read into. What no request uses
// is filled with poison, so that a touch after a task was terminal is found.
//
// FragileFile: one per process, any thread. LocalMemory: its writer's thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "transfer_engine/engine.h"

namespace te::soak {

inline constexpr size_t kLocalSlotBytes = 1 << 20;

// Registered memory that is truncated or made read-only while requests use it.
class FragileFile {
 public:
  Status open(Engine& engine, const std::string& path, size_t bytes);
  // "truncate", "extend", "readonly" or "writable"; what is wrong, or empty.
  std::string change(const std::string& command);
  // Odd while it may not be whole; changes with every change.
  uint64_t epoch() const { return epoch_; }
  bool truncated() const { return truncated_; }
  std::byte* at(size_t offset) const { return memory_ + offset; }
  // By the file, since the mapping may be gone. False: could not.
  bool put(size_t offset, std::span<const std::byte> from) const;
  bool get(size_t offset, std::span<std::byte> into) const;

 private:
  int file_ = -1;
  size_t bytes_ = 0;
  std::byte* memory_ = nullptr;
  std::atomic<uint64_t> epoch_{0};
  std::atomic<bool> truncated_{false};
};

class LocalMemory {
 public:
  // `fragile_at`: where this writer's slot begins in the file.
  LocalMemory(FragileFile& fragile, size_t fragile_at, uint64_t writer);
  Status register_with(Engine& engine);

  struct Use {
    std::byte* address = nullptr;
    size_t slot = 0;
    size_t length = 0;
    bool fragile = false;
    uint64_t epoch = 0;  // of the fragile file, before
  };
  // Takes a slot; with content for a WRITE. The fragile one may be used once at a time.
  Use take_for_write(size_t length, uint64_t range, uint64_t sequence, bool fragile);
  Use take_for_read(size_t length, bool fragile);
  // What a READ brought. False: it cannot be told, since the fragile file changed meanwhile.
  bool fetch(const Use& use, std::span<std::byte> into) const;
  // Whether the byte was there before the READ: it did not fill its memory.
  bool untouched(const Use& use, size_t at) const;
  // The task is terminal.
  void give_back(const Use& use);
  bool whole(const Use& use) const {
    return !use.fragile || (use.epoch % 2 == 0 && use.epoch == fragile_.epoch());
  }

 private:
  static constexpr size_t kSlots = 8;
  uint64_t poison_id(size_t slot) const { return (uint64_t{1} << 60) + writer_ * kSlots + slot; }
  Use take(size_t length, bool fragile);

  FragileFile& fragile_;
  const size_t fragile_at_;
  const uint64_t writer_;
  std::vector<std::byte> memory_;
  size_t next_ = 0;
};

}  // namespace te::soak
