// Unregistering: refuses peers, waits for what uses the buffers, and takes them out.
#include <algorithm>
#include <new>

#include "base/clock.h"
#include "base/log.h"
#include "engine/memory.h"

namespace te {

// Buffers that take no new uses, and others that lost one of several registrations. They do, and
// have it, again unless it is too late for that.
class Memory::Closing {
 public:
  Closing(Memory& memory, size_t count) : memory_(memory) {
    buffers.reserve(count);
    again.reserve(count);
  }
  ~Closing() {
    for (uint64_t address : stay) {
      ReaderLock lock(memory_.mutex_);
      Buffer* buffer = memory_.registry_.find_exact(address);
      if (buffer != nullptr) ++buffer->registrations;
    }
    for (Buffer* buffer : buffers) buffer->users.fetch_and(~Buffer::kClosing);
    for (Buffer* buffer : again) buffer->left_closing = true;
  }
  Closing(const Closing&) = delete;
  Closing& operator=(const Closing&) = delete;

  std::vector<Buffer*> buffers;
  std::vector<Buffer*> again;  // that were left closing before
  std::vector<uint64_t> stay;  // where those begin that are registered more than once

 private:
  Memory& memory_;
};

Status Memory::remove(std::span<void* const> addrs) {
  {
    ReaderLock lock(mutex_);
    for (void* addr : addrs) {
      if (allocated_.empty()) break;
      if (!allocated_.contains(addr)) continue;
      return error(Code::kInvalidArgument,
                   "the memory at {} was allocated by the engine: free it instead", addr);
    }
  }
  return remove_buffers(
      addrs, deadline_after_ms(now_ns(), static_cast<int64_t>(config_.unregister_timeout_ms)));
}

Status Memory::start_closing(std::span<void* const> addrs, Closing& closing) {
  for (size_t i = 0; i < addrs.size();) {
    ReaderLock lock(mutex_);
    for (const size_t end = std::min(i + kBuffersAtOnce, addrs.size()); i < end; ++i) {
      TE_RETURN_IF_ERROR(start_closing(addrs[i], closing));
    }
  }
  return {};
}

Status Memory::start_closing(void* addr, Closing& closing) {
  const auto address = reinterpret_cast<uint64_t>(addr);
  Buffer* buffer = registry_.find_exact(address);
  if (buffer == nullptr || buffer->registering()) {
    return error(Code::kNotFound,
                 "no buffer is registered that begins at {}: give the address that was registered",
                 addr);
  }
  if (buffer->left_closing.exchange(false)) {
    closing.again.push_back(buffer);
    return {};
  }
  if (!buffer->closing() && buffer->registrations.load() > 1) {
    closing.stay.push_back(address);  // first, because it may throw
    if (buffer->forget_one()) return {};
    closing.stay.pop_back();
  }
  if (!buffer->close()) {
    return error(Code::kBusy, "the memory at {} is being unregistered already", addr);
  }
  closing.buffers.push_back(buffer);
  return {};
}

Status Memory::remove_buffers(std::span<void* const> addrs, int64_t until_ns) try {
  Closing closing(*this, addrs.size());
  TE_RETURN_IF_ERROR(start_closing(addrs, closing));
  if (closing.buffers.empty() && closing.again.empty()) {
    closing.stay.clear();
    return {};
  }
  std::vector<Buffer*> buffers, quiet;
  // What ends with them ends without the lock: a context of a GPU, say.
  std::vector<std::shared_ptr<const DeviceMemory>> devices;
  devices.reserve(addrs.size());
  buffers.reserve(addrs.size());
  quiet.reserve(addrs.size());
  Installed transports;
  {
    const ReaderLock barrier(barrier_);
    transports = transports_.installed();
    // There is no way back from here on.
    buffers.insert(buffers.end(), closing.buffers.begin(), closing.buffers.end());
    buffers.insert(buffers.end(), closing.again.begin(), closing.again.end());
    closing.buffers.clear();
    closing.again.clear();
    closing.stay.clear();
    generation_.fetch_add(1);
    // Peers are refused from here on; then whoever is in the middle of something is waited for.
    for (Buffer* buffer : buffers) drop(*buffer, transports, false);
  }
  for (const Buffer* buffer : buffers) {
    for (; buffer != nullptr; buffer = buffer->replaced.get()) buffer->wait_until_unused();
  }
  Status failure;
  {
    // Of transports that went meanwhile there are no keys left, and those that came got none.
    const ReaderLock barrier(barrier_);
    for (Buffer* buffer : buffers) {
      Status status = await_quiet(*buffer, transports, until_ns);
      for (Buffer* old = buffer->replaced.get(); old && status.ok(); old = old->replaced.get()) {
        if (!old->left_closing) continue;
        status = await_quiet(*old, transports, until_ns);
        old->left_closing = !status.ok();
      }
      if (status.ok()) {
        drop(*buffer, transports, true);
        quiet.push_back(buffer);
      } else {
        buffer->left_closing = true;
        if (failure.ok()) failure = std::move(status);
      }
    }
  }
  for (size_t i = 0; i < quiet.size();) {
    WriterLock lock(mutex_);
    for (const size_t end = std::min(i + kBuffersAtOnce, quiet.size()); i < end; ++i) {
      devices.push_back(std::move(quiet[i]->device));
      registry_.remove(quiet[i]);
    }
  }
  generation_.fetch_add(1);
  return failure;
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

}  // namespace te
