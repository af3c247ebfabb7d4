#include "platform/host_memory.h"

#include "platform/page_access.h"

namespace te {
namespace {

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
      if (range.driver == nullptr) range = {.driver = this, .rights = (*rights)[next++]};
    }
    return {};
  }
};

}  // namespace

const MemoryDriver& host_memory() {
  static const HostMemory& memory = *new HostMemory;
  return memory;
}

}  // namespace te
