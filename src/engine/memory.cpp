#include "engine/memory.h"

#include <algorithm>
#include <optional>

#include "base/clock.h"
#include "base/log.h"
#include "platform/memory.h"

namespace te {
namespace {

// A copy that runs is over by then; one that does not run is not waited for.
constexpr int64_t kFreeWaitMs = 100;

}  // namespace

Memory::Memory(uint64_t instance, const Config& config, Transports& transports)
    : instance_(instance),
      config_(config),
      cpu_nodes_(memory_node_count()),
      transports_(transports) {}

Status Memory::add_one(const BufferEntry& entry, std::string_view location, bool remote_accessible,
                       int memory_file) {
  const auto address = reinterpret_cast<uint64_t>(entry.addr);
  Result<Buffer*> added =
      registry_.add(address, entry.length, std::string(location), remote_accessible);
  if (!added.ok()) return added.status();
  Buffer& buffer = **added;
  buffer.memory_file = memory_file;
  for (const std::shared_ptr<Transport>& transport : transports_.installed()) {
    if (!remote_accessible && !transport->capabilities().registers_local_memory) continue;
    Result<Bytes> key = transport->register_memory(buffer);
    if (!key.ok()) {
      drop(buffer, false);
      (void)await_quiet(buffer, now_ns());
      drop(buffer, true);
      registry_.remove(&buffer);
      return key.status().with_context(std::string(transport->name()));
    }
    buffer.keys.emplace(transport->name(), key.take());
  }
  return {};
}

// From the transports that know local memory, or from those that do not.
void Memory::drop(Buffer& buffer, bool local) {
  for (const std::shared_ptr<Transport>& transport : transports_.installed()) {
    if (transport->capabilities().registers_local_memory != local) continue;
    if (buffer.keys.contains(std::string(transport->name()))) transport->unregister_memory(buffer);
  }
}

Status Memory::add(std::span<const BufferEntry> buffers, std::string_view location,
                   bool remote_accessible) {
  TE_RETURN_IF_ERROR(parse_location(location, cpu_nodes_).status());
  WriterLock lock(mutex_);
  for (size_t i = 0; i < buffers.size(); ++i) {
    Status status = add_one(buffers[i], location, remote_accessible, -1);
    if (status.ok()) continue;
    for (size_t undo = 0; undo < i; ++undo) {
      Buffer* buffer = registry_.find_exact(reinterpret_cast<uint64_t>(buffers[undo].addr));
      drop(*buffer, false);
      (void)await_quiet(*buffer, now_ns());
      drop(*buffer, true);
      registry_.remove(buffer);
    }
    return buffers.size() == 1 ? status : status.with_context(fmt::format("buffer {}", i));
  }
  generation_.fetch_add(1);
  return {};
}

Result<void*> Memory::allocate(size_t length, const AllocateOptions& options) {
  const Result<std::optional<uint32_t>> node = parse_location(options.location, cpu_nodes_);
  if (!node.ok()) return node.status();
  if (length == 0) return Status(Code::kInvalidArgument, "the length of the memory is 0");
  const bool huge = options.huge_pages != HugePages::kNo;
  Result<MemoryFile> file = MemoryFile::create("transfer-engine-memory", length, huge);
  if (!file.ok() && options.huge_pages == HugePages::kPrefer) {
    log_info("{}; normal pages are taken", file.status().message());
    file = MemoryFile::create("transfer-engine-memory", length);
  }
  if (file.code() == Code::kUnsupported && options.huge_pages != HugePages::kRequire) {
    log_info("{}; peers cannot map the memory allocated here, they reach it as any other",
             file.status().message());
    file = MemoryFile::without_file(length);
  }
  if (!file.ok()) return file.status();
  if (node->has_value()) place_on_node(file->data(), file->size(), **node);
  void* addr = file->data();
  WriterLock lock(mutex_);
  TE_RETURN_IF_ERROR(
      add_one({addr, length}, options.location, options.remote_accessible, file->fd()));
  allocated_.emplace(addr, file.take());
  generation_.fetch_add(1);
  return addr;
}

Status Memory::free(void* addr) {
  {
    ReaderLock lock(mutex_);
    if (!allocated_.contains(addr)) {
      return error(Code::kNotFound,
                   "no memory at {} was allocated by this engine: give the address "
                   "that allocate returned",
                   addr);
    }
  }
  const Status status = remove_buffers({&addr, 1}, deadline_after_ms(now_ns(), kFreeWaitMs));
  if (!status.ok() && status.code() != Code::kBusy) return status;
  std::optional<MemoryFile> file;
  {
    WriterLock lock(mutex_);
    const auto found = allocated_.find(addr);
    if (found == allocated_.end()) return {};  // another call was quicker
    if (!status.ok()) {
      Buffer* buffer = registry_.find_exact(reinterpret_cast<uint64_t>(addr));
      if (buffer == nullptr || !buffer->left_closing) return status;
      log_info("{}; its memory is given back, and its addresses are kept", status.message());
      drop(*buffer, true);
      registry_.remove(buffer);
      generation_.fetch_add(1);
    }
    file = std::move(found->second);
    allocated_.erase(found);
  }
  if (status.ok()) {
    file->discard();
  } else {
    file->bury();
  }
  return {};
}

Status Memory::remove(std::span<void* const> addrs) {
  {
    ReaderLock lock(mutex_);
    for (void* addr : addrs) {
      if (!allocated_.contains(addr)) continue;
      return error(Code::kInvalidArgument,
                   "the memory at {} was allocated by the engine: free it instead", addr);
    }
  }
  return remove_buffers(
      addrs, deadline_after_ms(now_ns(), static_cast<int64_t>(config_.unregister_timeout_ms)));
}

// All or none. One that was left closing is taken again.
Result<std::vector<Buffer*>> Memory::close_buffers(std::span<void* const> addrs) {
  std::vector<Buffer*> buffers, again;
  WriterLock lock(mutex_);
  const auto undo = [&] {
    for (Buffer* buffer : buffers) buffer->users.fetch_and(~Buffer::kClosing);
    for (Buffer* buffer : again) {
      buffer->users.fetch_or(Buffer::kClosing);
      buffer->left_closing = true;
    }
  };
  for (void* addr : addrs) {
    Buffer* buffer = registry_.find_exact(reinterpret_cast<uint64_t>(addr));
    if (buffer == nullptr || (buffer->closing() && !buffer->left_closing)) {
      undo();
      if (buffer != nullptr) {
        return error(Code::kBusy, "the memory at {} is being unregistered already", addr);
      }
      return error(
          Code::kNotFound,
          "no buffer is registered that begins at {}: give the address that was registered", addr);
    }
    if (buffer->left_closing) again.push_back(buffer);
    buffer->left_closing = false;
    buffer->users.fetch_or(Buffer::kClosing);
    buffers.push_back(buffer);
  }
  generation_.fetch_add(1);
  return buffers;
}

Status Memory::await_quiet(Buffer& buffer, int64_t until_ns) {
  for (const std::shared_ptr<Transport>& transport : transports_.installed()) {
    if (!buffer.keys.contains(std::string(transport->name()))) continue;
    Status status = transport->await_quiet(buffer, until_ns);
    if (status.ok()) continue;
    return status.with_context(fmt::format(
        "the memory at {:#x} is closed to peers, but must stay until unregistering it succeeds",
        buffer.address));
  }
  return {};
}

Status Memory::remove_buffers(std::span<void* const> addrs, int64_t until_ns) {
  Result<std::vector<Buffer*>> closed = close_buffers(addrs);
  if (!closed.ok()) return closed.status();
  // Peers are refused from here on; then whoever is in the middle of something is waited for.
  std::vector<Buffer*> quiet, touched;
  Status failure;
  for (Buffer* buffer : *closed) {
    drop(*buffer, false);
    buffer->wait_until_unused();
    Status status = await_quiet(*buffer, until_ns);
    if (status.ok()) {
      drop(*buffer, true);
      quiet.push_back(buffer);
      continue;
    }
    touched.push_back(buffer);
    if (failure.ok()) failure = std::move(status);
  }
  WriterLock lock(mutex_);
  for (Buffer* buffer : quiet) registry_.remove(buffer);
  for (Buffer* buffer : touched) buffer->left_closing = true;
  generation_.fetch_add(1);
  return failure;
}

Status Memory::introduce(Transport& transport) {
  WriterLock lock(mutex_);
  Status failure;
  registry_.for_each([&](Buffer& buffer) {
    if (!failure.ok() || buffer.closing()) return;
    if (!buffer.remote_accessible && !transport.capabilities().registers_local_memory) return;
    Result<Bytes> key = transport.register_memory(buffer);
    if (key.ok()) {
      buffer.keys[std::string(transport.name())] = key.take();
    } else {
      failure = key.status();
    }
  });
  generation_.fetch_add(1);
  return failure;
}

void Memory::forget(Transport& transport) {
  WriterLock lock(mutex_);
  registry_.for_each([&](Buffer& buffer) { buffer.keys.erase(std::string(transport.name())); });
  generation_.fetch_add(1);
}

std::shared_ptr<const Descriptor> Memory::descriptor() {
  MutexLock cache(cache_mutex_);
  if (descriptor_ && descriptor_->generation == generation()) return descriptor_;
  auto result = std::make_shared<Descriptor>();
  {
    ReaderLock lock(mutex_);
    result->instance = instance_;
    result->generation = generation();
    for (const std::shared_ptr<Transport>& transport : transports_.installed()) {
      result->transports.push_back(
          {std::string(transport->name()), transport->capabilities().key_size, transport->info()});
    }
    std::map<std::string_view, uint32_t> locations;
    std::vector<std::string_view> keys(result->transports.size());
    registry_.for_each([&](const Buffer& buffer) {
      if (buffer.closing()) return;
      const auto [location, fresh] =
          locations.try_emplace(buffer.location, static_cast<uint32_t>(locations.size()));
      if (fresh) result->locations.push_back(buffer.location);
      for (size_t i = 0; i < keys.size(); ++i) {
        const auto key = buffer.keys.find(result->transports[i].name);
        keys[i] = key == buffer.keys.end() ? std::string_view() : std::string_view(key->second);
      }
      result->add({buffer.address, buffer.offset, buffer.length, location->second,
                   buffer.remote_accessible},
                  keys);
    });
  }
  if (Status status = result->finish(); !status.ok()) log_error("{}", status.to_string());
  descriptor_ = result;
  encoded_ = nullptr;
  return descriptor_;
}

std::shared_ptr<const Bytes> Memory::encoded_descriptor() {
  const std::shared_ptr<const Descriptor> current = descriptor();
  MutexLock cache(cache_mutex_);
  if (!encoded_ || descriptor_ != current) {
    auto bytes = std::make_shared<const Bytes>(current->encode());
    if (descriptor_ != current) return bytes;
    encoded_ = bytes;
  }
  return encoded_;
}

}  // namespace te
