#include "mapped_memory.h"

#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "size_text.h"

namespace te::tool {

Result<MappedMemory> MappedMemory::allocate(size_t bytes) {
  // Populating more than there is would not fail but end some process of this machine.
  const auto present =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  if (bytes > present) {
    return Status(Code::kResource,
                  fmt::format("a buffer of {} is more than this machine's memory of {}: give a "
                              "smaller --buffer-size",
                              size_text(bytes), bytes_text(present)));
  }
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) {
    return Status(Code::kResource, fmt::format("no memory for a buffer of {} ({}): give a "
                                               "smaller --buffer-size",
                                               size_text(bytes), std::strerror(errno)));
  }
  return MappedMemory(static_cast<std::byte*>(memory), bytes);
}

MappedMemory::~MappedMemory() {
  if (data_ != nullptr) munmap(data_, size_);
}

MappedMemory::MappedMemory(MappedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedMemory& MappedMemory::operator=(MappedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace te::tool
