#include "platform/page_access.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <numeric>
#include <optional>
#include <string>

#include "base/fd.h"
#include "base/log.h"

namespace te {
namespace {

// As linux/fs.h has it from 6.11 on.
struct MappingQuery {
  uint64_t size = sizeof(MappingQuery);
  uint64_t query_flags = 0;
  uint64_t query_addr = 0;
  uint64_t vma_start = 0;
  uint64_t vma_end = 0;
  uint64_t vma_flags = 0;
  uint64_t vma_page_size = 0;
  uint64_t vma_offset = 0;
  uint64_t inode = 0;
  uint32_t dev_major = 0;
  uint32_t dev_minor = 0;
  uint32_t vma_name_size = 0;
  uint32_t build_id_size = 0;
  uint64_t vma_name_addr = 0;
  uint64_t build_id_addr = 0;
};
static_assert(sizeof(MappingQuery) == 104);
constexpr unsigned long kProcmapQuery = _IOWR('f', 17, MappingQuery);
constexpr uint64_t kReadable = 1, kWritable = 2, kCoveringOrNext = 16;

struct VirtualArea {
  uint64_t begin = 0;
  uint64_t end = 0;
  Rights rights = Rights::kNone;
};

// The process's mappings, asked for in ascending order.
class Mappings {
 public:
  Mappings() : maps_(::open("/proc/self/maps", O_RDONLY | O_CLOEXEC)) {}

  bool known() const { return maps_.valid(); }

  // The one that holds `address`, or the first behind it; nothing: there is none.
  std::optional<VirtualArea> find(uint64_t address) {
    if (last_ && last_->begin <= address && address < last_->end) return last_;
    last_ = parsed_ ? search(address) : query(address);
    return last_;
  }

 private:
  std::optional<VirtualArea> query(uint64_t address) {
    MappingQuery query;
    query.query_flags = kCoveringOrNext;
    query.query_addr = address;
    if (::ioctl(maps_.get(), kProcmapQuery, &query) != 0) {
      if (errno == ENOENT) return std::nullopt;
      parse();
      return search(address);
    }
    VirtualArea area{query.vma_start, query.vma_end, Rights::kNone};
    if ((query.vma_flags & kReadable) != 0) area.rights = area.rights | Rights::kRead;
    if ((query.vma_flags & kWritable) != 0) area.rights = area.rights | Rights::kWrite;
    return area;
  }

  std::optional<VirtualArea> search(uint64_t address) const {
    const auto found =
        std::upper_bound(areas_.begin(), areas_.end(), address,
                         [](uint64_t value, const VirtualArea& area) { return value < area.end; });
    if (found == areas_.end()) return std::nullopt;
    return *found;
  }

  // Lines such as "7f5c8a000000-7f5c8a021000 rw-p 00000000 00:00 0".
  void parse() {
    parsed_ = true;
    std::string text;
    std::string part(64 << 10, '\0');
    for (;;) {
      const ssize_t got = ::read(maps_.get(), part.data(), part.size());
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      text.append(part, 0, static_cast<size_t>(got));
    }
    const char* at = text.data();
    const char* const end = at + text.size();
    while (at < end) {
      VirtualArea area;
      auto number = std::from_chars(at, end, area.begin, 16);
      if (number.ec == std::errc() && number.ptr < end) {
        number = std::from_chars(number.ptr + 1, end, area.end, 16);
      }
      if (number.ec != std::errc() || end - number.ptr < 3) break;
      if (number.ptr[1] == 'r') area.rights = area.rights | Rights::kRead;
      if (number.ptr[2] == 'w') area.rights = area.rights | Rights::kWrite;
      areas_.push_back(area);
      at = std::find(number.ptr, end, '\n') + 1;
    }
  }

  const Fd maps_;
  bool parsed_ = false;
  std::vector<VirtualArea> areas_;
  std::optional<VirtualArea> last_;
};

Status not_mapped(const BufferEntry& range, uint64_t where) {
  return error(Code::kInvalidArgument,
               "{} bytes at {}: nothing is mapped at {:#x}; register memory that is there",
               range.length, range.addr, where);
}

// Says nothing about protection.
Status check_mapped(const BufferEntry& range) {
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t begin = reinterpret_cast<uint64_t>(range.addr) / page * page;
  const uint64_t length = reinterpret_cast<uint64_t>(range.addr) + range.length - begin;
  // Does nothing but look whether the pages are mapped.
  if (::msync(reinterpret_cast<void*>(begin), length, MS_ASYNC) == 0 || errno != ENOMEM) return {};
  return not_mapped(range, reinterpret_cast<uint64_t>(range.addr));
}

Result<Rights> rights_of(const BufferEntry& range, Mappings& mappings) {
  const auto begin = reinterpret_cast<uint64_t>(range.addr);
  Rights rights = Rights::kBoth;
  for (uint64_t at = begin; at < begin + range.length;) {
    const std::optional<VirtualArea> area = mappings.find(at);
    if (!area || area->begin > at) return not_mapped(range, at);
    if (area->rights == Rights::kNone) {
      return error(Code::kInvalidArgument,
                   "{} bytes at {}: the pages from {:#x} to {:#x} can neither be read nor written "
                   "(PROT_NONE); register memory that can be touched",
                   range.length, range.addr, area->begin, area->end);
    }
    rights = rights & area->rights;
    at = area->end;
  }
  if (rights == Rights::kNone) {
    return error(Code::kInvalidArgument,
                 "{} bytes at {}: some pages can only be read, others only be written; register "
                 "them apart",
                 range.length, range.addr);
  }
  return rights;
}

}  // namespace

Result<std::vector<Rights>> local_rights(std::span<const BufferEntry> ranges) {
  std::vector<Rights> rights(ranges.size(), Rights::kBoth);
  std::vector<uint32_t> order(ranges.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return ranges[a].addr < ranges[b].addr; });
  Mappings mappings;
  for (const uint32_t index : order) {
    const BufferEntry& range = ranges[index];
    const auto begin = reinterpret_cast<uint64_t>(range.addr);
    if (begin == 0 || range.length == 0 || begin + range.length < begin) continue;
    if (!mappings.known()) {
      TE_RETURN_IF_ERROR(check_mapped(range));
      continue;
    }
    const Result<Rights> found = rights_of(range, mappings);
    if (!found.ok()) return found.status();
    rights[index] = *found;
  }
  return rights;
}

}  // namespace te
