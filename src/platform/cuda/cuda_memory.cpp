#include "platform/cuda/cuda_memory.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/log.h"
#include "platform/cuda/chunks.h"
#include "platform/cuda/follow.h"
#include "platform/cuda/gpu.h"

namespace te::cuda {
namespace {

constexpr DevicePtr kPage = 4096;

// BlockHandle::type, which peers know.
enum class HandleType : uint32_t { kAllocation = 0, kDescriptor = 1, kFabric = 2 };

template <typename Handle>
void put_bytes(const Handle& from, BlockHandle& to) {
  static_assert(sizeof from == sizeof to.bytes);
  std::memcpy(to.bytes.data(), &from, sizeof from);
}

template <typename Handle>
Handle bytes_of(const BlockHandle& from) {
  Handle handle{};
  std::memcpy(&handle, from.bytes.data(), sizeof handle);
  return handle;
}

// A GPU as the memory of no buffer: it copies between host memory and blocks that it opened, which
// hold it as long as they are open.
class CudaCopier : public DeviceMemory {
 public:
  CudaCopier(const Library& library, std::shared_ptr<Gpu> gpu)
      : library_(library), gpu_(std::move(gpu)) {}

  MemoryKind kind() const override { return MemoryKind::kCuda; }
  std::string pci_address() const override { return gpu_->pci_address(); }
  const void* copier() const override { return gpu_.get(); }
  Result<std::unique_ptr<PendingCopies>> start(std::span<const MemoryCopy> copies) const override {
    const bool from_gpu =
        !copies.empty() &&
        chunk_at(library_, reinterpret_cast<DevicePtr>(copies.front().from)).has_value();
    return gpu_->start(copies, from_gpu ? Gpu::Direction::kFromGpu : Gpu::Direction::kToGpu);
  }
  Result<std::shared_ptr<const OpenedBlock>> open_block(const BlockHandle& handle,
                                                        uint64_t length) const override {
    return open(handle, length, gpu_);
  }
  Result<std::shared_ptr<const OpenedBlock>> own_block(uint64_t begin,
                                                       uint64_t length) const override;
  std::shared_ptr<const void> pin(std::byte* host, size_t length) const override {
    return gpu_->pin(host, length);
  }

 protected:
  // `holder`: what the block holds while it is open.
  Result<std::shared_ptr<const OpenedBlock>> open(const BlockHandle& handle, uint64_t length,
                                                  std::shared_ptr<Gpu> holder) const;

  const Library& library_;
  const std::shared_ptr<Gpu> gpu_;
};

class CudaMemory final : public CudaCopier {
 public:
  CudaMemory(const Library& library, std::shared_ptr<Gpu> gpu, std::vector<Chunk> chunks)
      : CudaCopier(library, std::move(gpu)), chunks_(std::move(chunks)) {}

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
    return check_chunks(library_, chunks_, reinterpret_cast<DevicePtr>(begin), length);
  }

  std::shared_ptr<const void> make_current() const override {
    return std::make_shared<const Gpu::Current>(*gpu_);
  }

  Result<ExportedRange> export_range(const std::byte* begin, size_t length) const override {
    if (chunks_.front().managed) {
      return Status(Code::kUnsupported, "managed memory moves, and cannot be given to a NIC");
    }
    const auto first = reinterpret_cast<DevicePtr>(begin) / kPage * kPage;
    const auto end = (reinterpret_cast<DevicePtr>(begin) + length + kPage - 1) / kPage * kPage;
    return gpu_->export_pages(first, end - first);
  }

  Result<std::vector<MemoryBlock>> blocks() const override;
  Result<BlockHandle> export_block(const MemoryBlock& block) const override;
  // It ends with the GPU: the context is held for memory that is registered alone.
  Result<std::shared_ptr<const OpenedBlock>> open_block(const BlockHandle& handle,
                                                        uint64_t length) const override {
    return open(handle, length, nullptr);
  }

 private:
  bool contains(const std::byte* at) const {
    const auto address = reinterpret_cast<DevicePtr>(at);
    return address >= chunks_.front().begin && address < chunks_.back().end;
  }

  const std::vector<Chunk> chunks_;  // ascending, without gaps; at least one
};

Result<std::vector<MemoryBlock>> CudaMemory::blocks() const {
  std::vector<MemoryBlock> blocks;
  blocks.reserve(chunks_.size());
  for (const Chunk& chunk : chunks_) {
    if (chunk.managed) {
      return Status(Code::kUnsupported, "managed memory moves, and has no handle");
    }
    if (chunk.sharing == Sharing::kNone) {
      return error(
          Code::kUnsupported,
          "it was allocated without a handle for other processes: memory of pools has "
          "none, and that of cuMemCreate takes CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, or "
          "CU_MEM_HANDLE_TYPE_FABRIC");
    }
    blocks.push_back({chunk.begin, chunk.end - chunk.begin, chunk.id});
  }
  return blocks;
}

Result<BlockHandle> CudaMemory::export_block(const MemoryBlock& block) const {
  const auto chunk = std::find_if(chunks_.begin(), chunks_.end(), [&block](const Chunk& each) {
    return each.begin == block.begin && each.id == block.id;
  });
  if (chunk == chunks_.end()) return Status(Code::kInvalidArgument, "there is no such block");
  TE_RETURN_IF_ERROR(check_chunks(library_, chunks_, block.begin, block.length));
  BlockHandle handle;
  if (chunk->sharing == Sharing::kAllocation) {
    const Result<IpcMemHandle> exported = gpu_->export_allocation(block.begin);
    if (!exported.ok()) return exported.status();
    handle.type = static_cast<uint32_t>(HandleType::kAllocation);
    put_bytes(*exported, handle);
  } else if (chunk->sharing == Sharing::kFabricChunk) {
    const Result<FabricHandle> exported = gpu_->export_fabric_chunk(block.begin);
    if (!exported.ok()) return exported.status();
    handle.type = static_cast<uint32_t>(HandleType::kFabric);
    put_bytes(*exported, handle);
  } else {
    Result<Fd> exported = gpu_->export_chunk(block.begin);
    if (!exported.ok()) return exported.status();
    handle.type = static_cast<uint32_t>(HandleType::kDescriptor);
    handle.descriptor = exported.take();
  }
  return handle;
}

// Memory of another process. It ends with the GPU here, too.
class OpenedMemory final : public OpenedBlock {
 public:
  OpenedMemory(const std::shared_ptr<Gpu>& gpu, DevicePtr begin, std::shared_ptr<Gpu> holder)
      : gpu_(gpu), begin_(begin), holder_(std::move(holder)) {}
  ~OpenedMemory() override {
    if (const std::shared_ptr<Gpu> gpu = gpu_.lock()) gpu->openings().close(begin_);
  }
  std::byte* data() const override { return reinterpret_cast<std::byte*>(begin_); }
  std::shared_ptr<const void> use() const override { return gpu_.lock(); }

 private:
  const std::weak_ptr<Gpu> gpu_;
  const DevicePtr begin_;
  const std::shared_ptr<Gpu> holder_;
};

Result<DevicePtr> open_any(Openings& openings, const BlockHandle& handle, uint64_t length) {
  switch (static_cast<HandleType>(handle.type)) {
    case HandleType::kAllocation:
      return openings.open(bytes_of<IpcMemHandle>(handle));
    case HandleType::kDescriptor:
      return openings.map(handle.descriptor.get(), length);
    case HandleType::kFabric:
      return openings.map(bytes_of<FabricHandle>(handle), length);
  }
  return error(Code::kUnsupported, "the peer gives a handle of the unknown type {}", handle.type);
}

Result<std::shared_ptr<const OpenedBlock>> CudaCopier::open(const BlockHandle& handle,
                                                            uint64_t length,
                                                            std::shared_ptr<Gpu> holder) const {
  const Result<DevicePtr> begin = open_any(gpu_->openings(), handle, length);
  if (!begin.ok()) return begin.status();
  auto opened = std::make_shared<OpenedMemory>(gpu_, *begin, std::move(holder));
  const std::optional<Chunk> chunk = chunk_at(library_, *begin);
  if (!chunk || chunk->end - *begin < length) {
    return error(Code::kProtocol, "the peer's memory is shorter than the {} bytes that it says",
                 length);
  }
  return std::shared_ptr<const OpenedBlock>(std::move(opened));
}

// Memory of this process, of another engine.
class OwnMemory final : public OpenedBlock {
 public:
  OwnMemory(const Library& library, DevicePtr begin, uint64_t length, std::vector<Chunk> chunks)
      : library_(library), begin_(begin), length_(length), chunks_(std::move(chunks)) {}
  std::byte* data() const override { return reinterpret_cast<std::byte*>(begin_); }
  std::shared_ptr<const void> use() const override {
    return {std::shared_ptr<const void>(), this};  // there is nothing to keep
  }
  Status check() const override { return check_chunks(library_, chunks_, begin_, length_); }

 private:
  const Library& library_;
  const DevicePtr begin_;
  const uint64_t length_;
  const std::vector<Chunk> chunks_;
};

Result<std::shared_ptr<const OpenedBlock>> CudaCopier::own_block(uint64_t begin,
                                                                 uint64_t length) const {
  const std::optional<Chunk> first = chunk_at(library_, begin);
  if (!first) return Status(Code::kInvalidArgument, "it is not memory of a GPU any more");
  Result<std::vector<Chunk>> chunks =
      chunks_of(library_, {reinterpret_cast<void*>(begin), length}, *first);
  if (!chunks.ok()) return chunks.status();
  return std::shared_ptr<const OpenedBlock>(
      std::make_shared<OwnMemory>(library_, begin, length, chunks.take()));
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
  bool has_device() const override {
    const Library* library = loaded_library();
    return library != nullptr && Gpu::any_in_use(*library);
  }
  Result<std::shared_ptr<const DeviceMemory>> any_device() const override {
    const Library* library = loaded_library();
    if (library == nullptr) return MemoryDriver::any_device();
    Result<std::shared_ptr<Gpu>> gpu = Gpu::hold_any(*library);
    if (!gpu.ok()) return gpu.status();
    return std::shared_ptr<const DeviceMemory>(std::make_shared<CudaCopier>(*library, gpu.take()));
  }
  void unpin(std::byte* begin, size_t length) const override { Gpu::unpin(begin, length); }

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
