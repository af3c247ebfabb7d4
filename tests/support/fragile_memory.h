// Memory of which a part can be made inaccessible, as applications do with memory that is still
// registered, and be restored.
//
// One thread at a time.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace te::test {

enum class Damage { kReadOnly, kProtected, kUnmapped, kTruncated };

inline constexpr Damage kDamages[] = {Damage::kReadOnly, Damage::kProtected, Damage::kUnmapped,
                                      Damage::kTruncated};

inline const char* name_of(Damage damage) {
  switch (damage) {
    case Damage::kReadOnly:
      return "read_only";
    case Damage::kProtected:
      return "protected";
    case Damage::kUnmapped:
      return "unmapped";
    case Damage::kTruncated:
      return "truncated";
  }
  return "";
}

// A mapping of a memory file. Damage begins at a page; a truncated file has nothing behind it. It
// lies where nothing else is mapped by itself, so that what is unmapped of it stays so.
class FragileMemory {
 public:
  explicit FragileMemory(size_t size)
      : file_(::memfd_create("te-test-fragile", MFD_CLOEXEC)), size_(size) {
    if (::ftruncate(file_, static_cast<off_t>(size)) != 0) return;
    void* mapped = ::mmap(far_away(), size, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    if (mapped != MAP_FAILED) data_ = static_cast<std::byte*>(mapped);
  }
  ~FragileMemory() {
    if (data_ != nullptr) ::munmap(data_, size_);
    ::close(file_);
  }
  FragileMemory(const FragileMemory&) = delete;
  FragileMemory& operator=(const FragileMemory&) = delete;

  std::byte* data() const { return data_; }  // null: there was no memory
  size_t size() const { return size_; }

  bool damage(Damage damage, size_t at, size_t length) {
    switch (damage) {
      case Damage::kReadOnly:
        return ::mprotect(data_ + at, length, PROT_READ) == 0;
      case Damage::kProtected:
        return ::mprotect(data_ + at, length, PROT_NONE) == 0;
      case Damage::kUnmapped:
        return ::munmap(data_ + at, length) == 0;
      case Damage::kTruncated:
        return ::ftruncate(file_, static_cast<off_t>(at)) == 0;
    }
    return false;
  }
  // Accessible again, with the bytes that it had, but those behind a truncated end, which are 0.
  bool restore() { return ::ftruncate(file_, static_cast<off_t>(size_)) == 0 && map_again(); }

 private:
  // Past ThreadSanitizer, which takes mmap() for a WRITE of every byte. Engines look at the memory
  // at any time, and what orders their transfers after this call passes through another process.
  bool map_again() {
    return ::syscall(SYS_mmap, data_, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file_,
                     0L) == reinterpret_cast<intptr_t>(data_);
  }

  static void* far_away() {
#if defined(__SANITIZE_THREAD__)
    static uintptr_t next = uintptr_t{1} << 36;  // its own memory is in the middle
#else
    static uintptr_t next = uintptr_t{1} << 45;
#endif
    next += uintptr_t{1} << 32;
    return reinterpret_cast<void*>(next);
  }

  const int file_;
  const size_t size_;
  std::byte* data_ = nullptr;
};

}  // namespace te::test
