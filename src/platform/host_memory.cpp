#include "platform/host_memory.h"

#include "base/guarded_copy.h"
#include "base/log.h"
#include "platform/page_access.h"

namespace te {
namespace {

Status copy(std::byte* to, const std::byte* from, size_t length) {
  const CopyResult result = guarded_copy(to, from, length);
  if (result == CopyResult::kDone) return {};
  const bool source = result == CopyResult::kBadSource;
  return error(Code::kInvalidArgument,
               "{} bytes of host memory at {} cannot be {}: was it unmapped or protected, or its "
               "file truncated?",
               length, static_cast<const void*>(source ? from : to), source ? "read" : "written");
}

class HostMemory final : public MemoryDriver {
 public:
  MemoryKind kind() const override { return MemoryKind::kHost; }
  Status classify(std::span<const BufferEntry> ranges,
                  std::span<ClassifiedRange> found) const override {
    std::vector<BufferEntry> rest;
    for (size_t i = 0; i < ranges.size(); ++i) {
      if (found[i].driver == nullptr) rest.push_back(ranges[i]);
    }
    const Result<std::vector<Rights>> rights = local_rights(rest);
    if (!rights.ok()) return rights.status();
    size_t next = 0;
    for (ClassifiedRange& range : found) {
      if (range.driver == nullptr) range = {this, (*rights)[next++]};
    }
    return {};
  }
  Status copy_to_host(std::byte* host, const std::byte* from, size_t length) const override {
    return copy(host, from, length);
  }
  Status copy_from_host(std::byte* to, const std::byte* host, size_t length) const override {
    return copy(to, host, length);
  }
};

}  // namespace

const MemoryDriver& host_memory() {
  static const HostMemory& memory = *new HostMemory;
  return memory;
}

}  // namespace te
