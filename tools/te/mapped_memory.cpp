#include "mapped_memory.h"

#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "size_text.h"
#include "stop_signals.h"

namespace te::tool {
namespace {

constexpr size_t kStep = 64 << 20;
constexpr size_t kPage = 4096;

// A step takes some 10 ms, or 200 on a busy machine.
Status populate(std::byte* memory, size_t bytes) {
  for (size_t at = 0; at < bytes; at += kStep) {
    if (stop_signal() != 0) return Status(Code::kCancelled, "interrupted");
    const size_t length = std::min(kStep, bytes - at);
    if (madvise(memory + at, length, MADV_POPULATE_WRITE) == 0) continue;
    if (errno != EINVAL) {
      return Status(Code::kResource, fmt::format("no memory for a buffer of {} ({}): give a "
                                                 "smaller --buffer-size",
                                                 size_text(bytes), std::strerror(errno)));
    }
    // A kernel before 5.14.
    for (size_t page = 0; page < length; page += kPage) {
      *static_cast<volatile std::byte*>(memory + at + page) = std::byte{0};
    }
  }
  return {};
}

}  // namespace

uint64_t present_memory() {
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

Result<MappedMemory> MappedMemory::allocate(size_t bytes) {
  // Populating more than there is would not fail but end some process of this machine.
  const uint64_t present = present_memory();
  if (bytes > present) {
    return Status(Code::kResource,
                  fmt::format("a buffer of {} is more than this machine's memory of {}: give a "
                              "smaller --buffer-size",
                              size_text(bytes), bytes_text(present)));
  }
  void* const mapped =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    return Status(Code::kResource, fmt::format("no memory for a buffer of {} ({}): give a "
                                               "smaller --buffer-size",
                                               size_text(bytes), std::strerror(errno)));
  }
  MappedMemory memory(static_cast<std::byte*>(mapped), bytes);
  TE_RETURN_IF_ERROR(populate(memory.data(), bytes));
  return memory;
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
