#include "platform/cuda/cuda_memory.h"

#include <algorithm>
#include <optional>

#include "base/log.h"
#include "platform/cuda/follow.h"
#include "platform/cuda/gpu.h"

namespace te::cuda {
namespace {

constexpr DevicePtr kPage = 4096;

// Of the allocation, or of the chunk of one, that contains an address.
struct Chunk {
  DevicePtr begin = 0;
  DevicePtr end = 0;
  uint64_t id = 0;  // of its bytes; another one: they were freed, and the address was used again
  int gpu = 0;
  bool managed = false;
};

// What the driver says of an address; nothing: it is not memory of a GPU.
std::optional<Chunk> chunk_at(const Library& library, DevicePtr address) {
  MemoryType type = MemoryType::kUnknown;
  unsigned managed = 0;
  int ordinal = 0;
  unsigned long long id = 0;
  DevicePtr begin = 0;
  size_t length = 0;
  PointerAttribute attributes[] = {PointerAttribute::kMemoryType,    PointerAttribute::kIsManaged,
                                   PointerAttribute::kDeviceOrdinal, PointerAttribute::kBufferId,
                                   PointerAttribute::kRangeStart,    PointerAttribute::kRangeSize};
  void* values[] = {&type, &managed, &ordinal, &id, &begin, &length};
  // The application may not have initialized it: then there is no such memory.
  const CuResult result =
      library.pointer_get_attributes(std::size(attributes), attributes, values, address);
  if (result != CuResult::kSuccess) return std::nullopt;
  if (type != MemoryType::kDevice && managed == 0) return std::nullopt;
  return Chunk{begin, begin + length, id, ordinal, managed != 0};
}

class CudaMemory final : public DeviceMemory {
 public:
  CudaMemory(const Library& library, std::shared_ptr<Gpu> gpu, std::vector<Chunk> chunks)
      : library_(library), gpu_(std::move(gpu)), chunks_(std::move(chunks)) {}

  MemoryKind kind() const override { return MemoryKind::kCuda; }
  std::string pci_address() const override { return gpu_->pci_address(); }
  Result<std::unique_ptr<PendingCopies>> start(std::span<const MemoryCopy> copies) const override {
    for (const MemoryCopy& each : copies) {
      if (contains(each.to)) TE_RETURN_IF_ERROR(check(each.to, each.length));
      if (contains(each.from)) TE_RETURN_IF_ERROR(check(each.from, each.length));
      if (each.to < each.from + each.length && each.from < each.to + each.length) {
        return Status(Code::kInvalidArgument,
                      "the two ranges overlap, which copies inside a GPU may not");
      }
    }
    const bool from_gpu = !copies.empty() && contains(copies.front().from);
    return gpu_->start(copies, from_gpu ? Gpu::Direction::kFromGpu : Gpu::Direction::kToGpu);
  }

  Status check(const std::byte* begin, size_t length) const override {
    const auto first = reinterpret_cast<DevicePtr>(begin);
    auto chunk = std::upper_bound(chunks_.begin(), chunks_.end(), first,
                                  [](DevicePtr at, const Chunk& each) { return at < each.end; });
    for (; chunk != chunks_.end() && chunk->begin < first + length; ++chunk) {
      const std::optional<Chunk> now = chunk_at(library_, chunk->begin);
      if (now && now->id == chunk->id && now->gpu == chunk->gpu) continue;
      return error(Code::kInvalidArgument,
                   "the memory of cuda:{} at {:#x} was freed while it was registered{}: unregister "
                   "memory before it is freed",
                   chunk->gpu, chunk->begin, now ? ", and the address is in use again" : "");
    }
    return {};
  }

  Result<ExportedRange> export_range(const std::byte* begin, size_t length) const override {
    if (chunks_.front().managed) {
      return Status(Code::kUnsupported, "managed memory moves, and cannot be given to a NIC");
    }
    const auto first = reinterpret_cast<DevicePtr>(begin) / kPage * kPage;
    const auto end = (reinterpret_cast<DevicePtr>(begin) + length + kPage - 1) / kPage * kPage;
    Result<Fd> fd = gpu_->export_pages(first, end - first);
    if (!fd.ok()) return fd.status();
    return ExportedRange{fd.take(), first};
  }

  std::shared_ptr<const void> pin(std::byte* host, size_t length) const override {
    return gpu_->pin(host, length);
  }

 private:
  bool contains(const std::byte* at) const {
    const auto address = reinterpret_cast<DevicePtr>(at);
    return address >= chunks_.front().begin && address < chunks_.back().end;
  }

  const Library& library_;
  const std::shared_ptr<Gpu> gpu_;
  const std::vector<Chunk> chunks_;  // ascending, without gaps; at least one
};

// All chunks of a range that begins in memory of a GPU.
Result<std::vector<Chunk>> chunks_of(const Library& library, const BufferEntry& range,
                                     const Chunk& first) {
  std::vector<Chunk> chunks{first};
  const auto begin = reinterpret_cast<DevicePtr>(range.addr);
  while (chunks.back().end < begin + range.length) {
    const DevicePtr next = chunks.back().end;
    const std::optional<Chunk> chunk = chunk_at(library, next);
    if (!chunk || chunk->end <= next) {
      return error(Code::kInvalidArgument,
                   "{} bytes at {} are not all memory of a GPU: what is at cuda:{} ends at {:#x}; "
                   "register no more than was allocated",
                   range.length, range.addr, first.gpu, next);
    }
    if (chunk->gpu != first.gpu || chunk->managed != first.managed) {
      return error(Code::kInvalidArgument,
                   "{} bytes at {} are memory of cuda:{} up to {:#x}, and of cuda:{} from there: "
                   "register each part by itself",
                   range.length, range.addr, first.gpu, next, chunk->gpu);
    }
    chunks.push_back(*chunk);
  }
  return chunks;
}

class CudaDriver final : public MemoryDriver {
 public:
  MemoryKind kind() const override { return MemoryKind::kCuda; }

  Status classify(std::span<const BufferEntry> ranges,
                  std::span<ClassifiedRange> found) const override {
    const Library* library = loaded_library();
    if (library == nullptr) return {};
    for (size_t i = 0; i < ranges.size(); ++i) {
      const auto begin = reinterpret_cast<DevicePtr>(ranges[i].addr);
      const bool is_range = ranges[i].length != 0 && begin + ranges[i].length > begin;
      if (found[i].driver != nullptr || !is_range) continue;
      const std::optional<Chunk> first = chunk_at(*library, begin);
      if (!first) continue;
      TE_RETURN_IF_ERROR(describe(*library, ranges[i], *first, found[i]));
    }
    return {};
  }
  Result<std::unique_ptr<DeviceWork>> follow(void* event, void* stream) const override {
    const Library* library = loaded_library();
    if (library == nullptr) {
      return Status(Code::kUnsupported,
                    "this process has not loaded the CUDA driver (libcuda.so.1), so it has no "
                    "event or stream to follow");
    }
    return cuda::follow(*library, static_cast<Event>(event), static_cast<Stream>(stream));
  }
  void unpin(std::byte* host) const override { Gpu::unpin(host); }

 private:
  Status describe(const Library& library, const BufferEntry& range, const Chunk& first,
                  ClassifiedRange& found) const {
    Result<std::vector<Chunk>> chunks = chunks_of(library, range, first);
    if (!chunks.ok()) return chunks.status();
    const Result<std::shared_ptr<Gpu>> gpu = Gpu::hold(library, first.gpu);
    if (!gpu.ok()) {
      return gpu.status().with_context(
          fmt::format("{} bytes of cuda:{} at {}", range.length, first.gpu, range.addr));
    }
    (*gpu)->sync_memory_operations(first.begin);
    found = {.driver = this,
             .rights = Rights::kBoth,
             .location = fmt::format("cuda:{}", first.gpu),
             .device = std::make_shared<CudaMemory>(library, *gpu, chunks.take())};
    return {};
  }
};

}  // namespace

const MemoryDriver& cuda_memory() {
  static const CudaDriver& memory = *new CudaDriver;
  return memory;
}

}  // namespace te::cuda
