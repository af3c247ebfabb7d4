#include "soak/local_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "soak/report.h"
#include "soak/stamp.h"

namespace te::soak {

Status FragileFile::open(Engine& engine, const std::string& path, size_t bytes) {
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  bytes_ = bytes;
  if (file_ < 0 || ::ftruncate(file_, static_cast<off_t>(bytes)) != 0) {
    return Status(Code::kResource, "cannot make " + path);
  }
  void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  if (mapped == MAP_FAILED) return Status(Code::kResource, "cannot map " + path);
  memory_ = static_cast<std::byte*>(mapped);
  return engine.register_memory(memory_, bytes, "*", false);
}

std::string FragileFile::change(const std::string& command) {
  const bool heals = command == "extend" || command == "writable";
  // A process that replaced one hears only of the heal.
  const uint64_t next = epoch_ / 2 * 2 + 2 + (heals ? 0 : 1);
  if (!heals) epoch_ = next;
  int result = -1;
  if (command == "truncate" || command == "extend") {
    truncated_ = !heals;
    result = ::ftruncate(file_, heals ? static_cast<off_t>(bytes_) : 0);
  } else if (command == "readonly" || command == "writable") {
    result = ::mprotect(memory_, bytes_, heals ? PROT_READ | PROT_WRITE : PROT_READ);
  }
  if (heals) epoch_ = next;
  return result == 0 ? "" : command + " failed";
}

bool FragileFile::put(size_t offset, std::span<const std::byte> from) const {
  // Would make the file long again; what it held is zeros from now on.
  if (truncated_) return false;
  return ::pwrite(file_, from.data(), from.size(), static_cast<off_t>(offset)) ==
         static_cast<ssize_t>(from.size());
}

bool FragileFile::get(size_t offset, std::span<std::byte> into) const {
  return ::pread(file_, into.data(), into.size(), static_cast<off_t>(offset)) ==
         static_cast<ssize_t>(into.size());
}

LocalMemory::LocalMemory(FragileFile& fragile, size_t fragile_at, uint64_t writer)
    : fragile_(fragile),
      fragile_at_(fragile_at),
      writer_(writer),
      memory_(kSlots * kLocalSlotBytes) {
  for (size_t slot = 0; slot < kSlots; ++slot) {
    stamp(memory_.data() + slot * kLocalSlotBytes, kLocalSlotBytes, poison_id(slot), kPoison);
  }
}

Status LocalMemory::register_with(Engine& engine) {
  return engine.register_memory(memory_.data(), memory_.size(), "*", false);
}

LocalMemory::Use LocalMemory::take(size_t length, bool fragile) {
  Use use;
  use.length = length;
  use.fragile = fragile;
  use.epoch = fragile_.epoch();
  if (fragile) {
    use.address = fragile_.at(fragile_at_);
    return use;
  }
  use.slot = next_++ % kSlots;
  use.address = memory_.data() + use.slot * kLocalSlotBytes;
  const size_t at = first_difference(use.address, kLocalSlotBytes, poison_id(use.slot), kPoison);
  if (at != kLocalSlotBytes) {
    report_violation("local", fmt::format("writer {}: byte {} of local slot {} changed after every "
                                          "task that used it was terminal",
                                          writer_, at, use.slot));
    stamp(use.address, kLocalSlotBytes, poison_id(use.slot), kPoison);
  }
  return use;
}

LocalMemory::Use LocalMemory::take_for_write(size_t length, uint64_t range, uint64_t sequence,
                                             bool fragile) {
  Use use = take(length, fragile);
  if (fragile) {
    std::vector<std::byte> content(length);
    stamp(content.data(), length, range, sequence);
    if (!fragile_.put(fragile_at_, content)) use.epoch = 1;
  } else {
    stamp(use.address, length, range, sequence);
  }
  return use;
}

LocalMemory::Use LocalMemory::take_for_read(size_t length, bool fragile) {
  return take(length, fragile);
}

bool LocalMemory::fetch(const Use& use, std::span<std::byte> into) const {
  if (!use.fragile) {
    std::copy(use.address, use.address + use.length, into.begin());
    return true;
  }
  return fragile_.get(fragile_at_, into) && whole(use);
}

bool LocalMemory::untouched(const Use& use, size_t at) const {
  if (use.fragile) return false;
  const uint64_t word = stamp_word(poison_id(use.slot), kPoison, at / sizeof word);
  const size_t count = std::min(sizeof word, use.length - at);
  return std::memcmp(&word, use.address + at, count) == 0;
}

void LocalMemory::give_back(const Use& use) {
  if (use.fragile) return;
  // The part of the slot that the request had; the stamp's words lie at the same places.
  stamp(use.address, use.length, poison_id(use.slot), kPoison);
  const size_t rounded = (use.length + 7) / 8 * 8;
  const uint64_t word = stamp_word(poison_id(use.slot), kPoison, rounded / 8 - 1);
  std::copy_n(reinterpret_cast<const std::byte*>(&word), 8, use.address + rounded - 8);
}

}  // namespace te::soak
