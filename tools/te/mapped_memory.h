// Page-aligned memory that is given back when the object goes. One owner; the bytes are shared with
// whoever was given the address.
#pragma once

#include <cstddef>
#include <cstdint>

#include "transfer_engine/status.h"

namespace te::tool {

// Bytes that this machine has.
uint64_t present_memory();

class MappedMemory {
 public:
  MappedMemory() = default;  // none
  // Zeroed and present, so that no page fault falls into a measurement. kResource when there is not
  // enough memory; kCancelled where a stop signal comes first.
  static Result<MappedMemory> allocate(size_t bytes);
  ~MappedMemory();
  MappedMemory(MappedMemory&& other) noexcept;
  MappedMemory& operator=(MappedMemory&& other) noexcept;

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  MappedMemory(std::byte* data, size_t size) : data_(data), size_(size) {}

  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace te::tool
