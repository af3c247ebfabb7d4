// Memory that several processes can map: a file without a name (memfd), and what maps it.
//
// Values; distinct objects may be used from any thread.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "base/fd.h"
#include "transfer_engine/status.h"

namespace te {

// MADV_POPULATE_WRITE of Linux 5.14, newer than some C libraries' headers.
inline constexpr int kPopulateWrite = 23;

// A mapped range, unmapped with the object.
class Mapping {
 public:
  // The first `length` bytes of a file.
  static Result<Mapping> map(int fd, size_t length, bool writable);
  // Memory of this process alone.
  static Result<Mapping> anonymous(size_t length);
  // Keeps the addresses, without memory behind them, for good.
  void bury();
  // Leaves the range mapped.
  void leave() { data_ = nullptr, size_ = 0; }
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    if (this != &other) {
      reset();
      data_ = std::exchange(other.data_, nullptr);
      size_ = std::exchange(other.size_, 0);
    }
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { reset(); }

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  // So that the first access to a page is no page fault, where the file has that page already, and
  // the kernel can. `begin`: of a page.
  void populate(size_t begin, size_t length) const;
  // Children of a fork do not have it.
  void keep_from_children() const;
  void reset();

 private:
  static Result<Mapping> make(size_t length, int protection, int flags, int fd);

  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Zeroed, writable, and of a size that nobody can change any more, so that no access behind a
// check of it can fail.
class MemoryFile {
 public:
  // Huge pages come from the kernel's pool (/proc/sys/vm/nr_hugepages); kResource where that has
  // not enough of them.
  // kUnsupported where this process may not make memory files, or none of that size (RLIMIT_FSIZE).
  static Result<MemoryFile> create(const std::string& name, size_t length, bool huge_pages = false);
  // The same memory without a file, for where there can be none: nobody else maps it.
  static Result<MemoryFile> without_file(size_t length);

  int fd() const { return fd_.get(); }  // -1: without one
  std::byte* data() const { return mapping_.data(); }
  size_t size() const { return mapping_.size(); }  // at least what was asked for
  // From now on others can map it for reading only.
  Status close_for_writers();
  // Gives the memory back to the kernel although others may still have it mapped: they read zeros.
  void discard();
  // The same, and nothing will ever lie at these addresses again in this process. So an access from
  // outside that comes late finds no memory, rather than what was mapped there next.
  void bury();
  // Leaves the memory mapped, for others to unmap: so many bytes.
  size_t leave();

 private:
  Fd fd_;
  Mapping mapping_;
};

// Whether `fd` is a memory file of at least `length` bytes that nobody can shorten, which one has
// to know of a foreign one before touching what it maps.
bool is_fixed_memory_file(int fd, size_t length);

}  // namespace te
