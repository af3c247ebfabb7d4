#include "base/memory_file.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <vector>

#include "base/log.h"

namespace te {
namespace {

// Newer than some C libraries' headers.
constexpr unsigned kNoExec = 0x0008U;     // MFD_NOEXEC_SEAL, Linux 6.3
constexpr int kSealFutureWrite = 0x0010;  // F_SEAL_FUTURE_WRITE, Linux 5.1

Fd make_file(const std::string& name, unsigned flags) {
  // Some systems insist on it, older ones do not know it.
  Fd fd(::memfd_create(name.c_str(), flags | kNoExec));
  if (!fd.valid() && errno == EINVAL) fd = Fd(::memfd_create(name.c_str(), flags));
  return fd;
}

// A file that would be larger than RLIMIT_FSIZE costs the process its life (SIGXFSZ), so the limit
// is asked for first.
Status grow(int fd, size_t size) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      size > limit.rlim_cur) {
    return error(Code::kUnsupported,
                 "a memory file of {} bytes is more than the {} bytes that this process may give "
                 "a file: raise RLIMIT_FSIZE (ulimit -f unlimited)",
                 size, limit.rlim_cur);
  }
  if (::ftruncate(fd, static_cast<off_t>(size)) == 0) return {};
  return error(Code::kResource, "cannot make a memory file of {} bytes: {}", size,
               errno_text(errno));
}

}  // namespace

Result<Mapping> Mapping::map(int fd, size_t length, bool writable) {
  return make(length, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd);
}

Result<Mapping> Mapping::anonymous(size_t length) {
  return make(length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

Result<Mapping> Mapping::make(size_t length, int protection, int flags, int fd) {
  void* data = ::mmap(nullptr, length, protection, flags, fd, 0);
  if (data == MAP_FAILED) {
    return error(Code::kResource, "cannot map {} bytes: {}", length, errno_text(errno));
  }
  Mapping mapping;
  mapping.data_ = static_cast<std::byte*>(data);
  mapping.size_ = length;
  return mapping;
}

void Mapping::populate(size_t begin, size_t length) const {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t count = (length + page - 1) / page;
  std::vector<unsigned char> present(count);
  if (::mincore(data_ + begin, length, present.data()) != 0) return;
  for (size_t first = 0, end = 0; first < count; first = end + 1) {
    for (end = first; end < count && (present[end] & 1) != 0;) ++end;
    if (end == first) continue;
    if (::madvise(data_ + begin + first * page, (end - first) * page, kPopulateWrite) != 0) return;
  }
}

void Mapping::keep_from_children() const { ::madvise(data_, size_, MADV_DONTFORK); }

void Mapping::bury() {
  if (data_ == nullptr) return;
  // Where that fails, the memory stays as it is.
  (void)::mmap(data_, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
               0);
  data_ = nullptr;
  size_ = 0;
}

void Mapping::reset() {
  if (data_ != nullptr) ::munmap(data_, size_);
  data_ = nullptr;
  size_ = 0;
}

Result<MemoryFile> MemoryFile::create(const std::string& name, size_t length, bool huge_pages) {
  MemoryFile file;
  file.fd_ = make_file(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge_pages ? MFD_HUGETLB : 0U));
  if (!file.fd_.valid()) {
    if (errno == EPERM || errno == EACCES || errno == ENOSYS) {
      return error(Code::kUnsupported,
                   "memfd_create says {}: a seccomp filter would have to allow it",
                   errno_text(errno));
    }
    return error(Code::kResource, "cannot make a memory file{}: {}",
                 huge_pages ? " of huge pages" : "", errno_text(errno));
  }
  struct stat facts {};
  ::fstat(file.fd_.get(), &facts);  // the block of a memory file is its page
  const auto page = static_cast<size_t>(facts.st_blksize);
  if (length > static_cast<size_t>(INT64_MAX) - page) {
    return error(Code::kInvalidArgument, "{} bytes are more than memory has", length);
  }
  const size_t size = (length + page - 1) / page * page;
  TE_RETURN_IF_ERROR(grow(file.fd_.get(), size));
  Result<Mapping> mapping = Mapping::map(file.fd_.get(), size, true);
  if (!mapping.ok()) {
    if (!huge_pages) return mapping.status();
    return mapping.status().with_context(
        fmt::format("{} huge pages of {} bytes (see HugePages_Free in /proc/meminfo and "
                    "/proc/sys/vm/nr_hugepages)",
                    size / page, page));
  }
  file.mapping_ = mapping.take();
  if (::fcntl(file.fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    return error(Code::kUnsupported, "cannot seal a memory file: {}", errno_text(errno));
  }
  return file;
}

Result<MemoryFile> MemoryFile::without_file(size_t length) {
  Result<Mapping> mapping = Mapping::anonymous(length);
  if (!mapping.ok()) return mapping.status();
  MemoryFile file;
  file.mapping_ = mapping.take();
  return file;
}

Status MemoryFile::close_for_writers() {
  if (::fcntl(fd_.get(), F_ADD_SEALS, kSealFutureWrite | F_SEAL_SEAL) == 0) return {};
  return error(Code::kUnsupported, "cannot close a memory file for writers: {}; it takes Linux 5.1",
               errno_text(errno));
}

void MemoryFile::discard() {
  if (!fd_.valid()) return;
  ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
              static_cast<off_t>(mapping_.size()));
}

void MemoryFile::bury() {
  discard();
  mapping_.bury();
}

size_t MemoryFile::leave() {
  const size_t mapped = mapping_.size();
  mapping_.leave();
  fd_ = Fd();
  return mapped;
}

bool is_fixed_memory_file(int fd, size_t length) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  struct stat facts {};
  return seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && ::fstat(fd, &facts) == 0 &&
         static_cast<uint64_t>(facts.st_size) >= length;
}

}  // namespace te
