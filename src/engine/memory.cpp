// Registering; memory_unregister.cpp takes buffers out, description.cpp makes what peers are told.
#include "engine/memory.h"

#include <algorithm>
#include <new>
#include <optional>

#include "base/clock.h"
#include "base/log.h"
#include "platform/memory.h"

namespace te {
namespace {

// A copy that runs is over by then; one that does not run is not waited for.
constexpr int64_t kFreeWaitMs = 100;

Status check_access(Access access) {
  if (access >= Access::kNone && access <= Access::kReadWrite) return {};
  return error(Code::kInvalidArgument, "the access is {}: give one of Access",
               static_cast<int32_t>(access));
}

// What peers may do to memory that this process may do `local` to.
Result<Rights> remote_rights(const BufferEntry& entry, Access access, Rights local) {
  const Rights asked = asked_rights(access);
  if (access == Access::kDefault || contains(local, asked)) return asked & local;
  return error(Code::kPermission,
               "{} bytes at {} cannot be offered for {}: this process has them mapped for {} only; "
               "ask for less, or map them so",
               entry.length, entry.addr, rights_name(asked),
               local == Rights::kRead ? "reading" : "writing");
}

// Host memory may have any location of host memory: the kernel moves it as it likes.
Status check_location(const BufferEntry& entry, std::string_view location,
                      const ClassifiedRange& found) {
  if (location == "*" || location == found.location) return {};
  if (found.location.empty() && !location.starts_with("cuda:")) return {};
  if (found.location.empty()) {
    return error(
        Code::kInvalidArgument,
        "the location is '{}', but the {} bytes at {} are {}: give their own location, or '*'",
        location, entry.length, entry.addr, kind_name(found.driver->kind()));
  }
  return error(Code::kInvalidArgument,
               "the location is '{}', but the {} bytes at {} are memory of '{}': give that, or '*'",
               location, entry.length, entry.addr, found.location);
}

// What peers and NICs are told.
std::string_view location_of(const ClassifiedRange& found, std::string_view asked) {
  return found.location.empty() ? asked : std::string_view(found.location);
}

// Whether the buffer is registered with the transport.
bool takes(const Capabilities& capabilities, const Buffer& buffer) {
  const bool for_peers =
      buffer.remote != Rights::kNone && capabilities.reach.remote.contains(buffer.kind);
  return for_peers ||
         (capabilities.registers_local_memory && capabilities.reach.local.contains(buffer.kind));
}

}  // namespace

// What a call wants registered.
struct Memory::Asked {
  std::span<const BufferEntry> entries;
  std::string_view location;
  std::vector<ClassifiedRange> local = {};
  std::vector<Rights> remote = {};
  int memory_file = -1;
  bool own = false;  // the engine's
};

// Buffers that are in the registry, but not ready, and others that were and count once more. Takes
// the ones out again, and the count back, unless they are kept.
class Memory::Placed {
 public:
  explicit Placed(Memory& memory, size_t count) : memory_(memory) { buffers.reserve(count); }
  ~Placed() {
    if (!again.empty()) (void)memory_.remove_buffers(again, now_ns());
    if (buffers.empty()) return;
    for (size_t i = 0; i < buffers.size(); i += kBuffersAtOnce) {
      WriterLock lock(memory_.mutex_);
      for (size_t k = i; k < std::min(i + kBuffersAtOnce, buffers.size()); ++k) {
        memory_.registry_.remove(buffers[k]);
      }
    }
    end();
  }
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;

  // They are ready from here on.
  void keep() {
    again.clear();
    if (buffers.empty()) return;
    for (Buffer* buffer : buffers) buffer->users.fetch_and(~Buffer::kRegistering);
    buffers.clear();
    memory_.generation_.fetch_add(1);
    end();
  }

  std::vector<Buffer*> buffers;
  std::vector<void*> again;            // where those begin that were ready before
  std::vector<NumberRange> ambiguous;  // numbers that became so
  bool another_first = false;          // another call registers one of the ranges just now

 private:
  // For calls that wait to count what was placed here.
  void end() {
    memory_.placements_ended_.fetch_add(1);
    memory_.placements_ended_.notify_all();
  }

  Memory& memory_;
};

// Registrations with transports, which end with this unless they are kept. Under the barrier.
class Memory::Keys {
 public:
  Keys(std::span<Buffer* const> buffers, const Installed& transports)
      : buffers_(buffers), transports_(transports) {}
  ~Keys() {
    if (kept_) return;
    for (Buffer* buffer : buffers_.first(registered_)) {
      drop(*buffer, transports_, false);
      (void)await_quiet(*buffer, transports_, now_ns());
      drop(*buffer, transports_, true);
    }
  }
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;

  Status register_all() {
    for (Buffer* buffer : buffers_) {
      ++registered_;
      for (const std::shared_ptr<Transport>& transport : transports_) {
        TE_RETURN_IF_ERROR(register_with(*buffer, *transport));
      }
    }
    return {};
  }
  void keep() { kept_ = true; }

 private:
  const std::span<Buffer* const> buffers_;
  const Installed& transports_;
  size_t registered_ = 0;
  bool kept_ = false;
};

Status Memory::out_of_memory() {
  return Status(Code::kResource, "out of memory: nothing was changed; free some, then try again");
}

Memory::Memory(uint64_t instance, const Config& config, Transports& transports)
    : instance_(instance),
      config_(config),
      cpu_nodes_(memory_node_count()),
      drivers_(memory_drivers()),
      transports_(transports) {}

Memory::~Memory() {
  WriterLock lock(mutex_);
  for (const auto& [address, file] : allocated_) unpin(file.data(), file.size());
}

Status Memory::register_with(Buffer& buffer, Transport& transport) {
  if (!takes(transport.capabilities(), buffer)) return {};
  // First the place for the key, so that no key gets lost when memory is short.
  const auto slot = buffer.keys.try_emplace(std::string(transport.name())).first;
  Status status;
  try {
    Result<Bytes> key = transport.register_memory(buffer);
    if (key.ok()) {
      slot->second = key.take();
      return {};
    }
    status = key.status();
  } catch (...) {
    buffer.keys.erase(slot);
    throw;
  }
  buffer.keys.erase(slot);
  return status.with_context(transport.name());
}

// From the transports that know local memory, or from those that do not.
void Memory::drop(Buffer& buffer, const Installed& transports, bool local) noexcept {
  for (const std::shared_ptr<Transport>& transport : transports) {
    if (transport->capabilities().registers_local_memory != local) continue;
    if (buffer.keys.contains(transport->name())) transport->unregister_memory(buffer);
  }
}

Status Memory::await_quiet(Buffer& buffer, const Installed& transports, int64_t until_ns) {
  for (const std::shared_ptr<Transport>& transport : transports) {
    if (!buffer.keys.contains(transport->name())) continue;
    Status status = transport->await_quiet(buffer, until_ns);
    if (status.ok()) continue;
    return status.with_context(fmt::format(
        "the memory at {:#x} is closed to peers, but must stay until unregistering it succeeds",
        buffer.address));
  }
  return {};
}

Status Memory::add(std::span<const BufferEntry> buffers, std::string_view location,
                   Access access) try {
  constexpr MemoryKinds kKinds{MemoryKind::kHost, MemoryKind::kCuda};
  TE_RETURN_IF_ERROR(parse_location(location, cpu_nodes_, kKinds).status());
  TE_RETURN_IF_ERROR(check_access(access));
  Asked asked{.entries = buffers, .location = location};
  Result<std::vector<ClassifiedRange>> local = classify(drivers_, buffers);
  if (!local.ok()) return local.status();
  asked.local = local.take();
  asked.remote.reserve(buffers.size());
  for (size_t i = 0; i < buffers.size(); ++i) {
    TE_RETURN_IF_ERROR(check_location(buffers[i], location, asked.local[i]));
    const Result<Rights> rights = remote_rights(buffers[i], access, asked.local[i].rights);
    if (!rights.ok()) return rights.status();
    asked.remote.push_back(*rights);
  }
  return add_asked(asked);
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

Status Memory::add_asked(const Asked& asked) {
  for (;;) {
    const uint32_t ended = placements_ended_.load();
    bool another_first = false;
    Status status = try_to_add(asked, another_first);
    if (!another_first) return status;
    // Nothing of this call is in the registry meanwhile, so no two calls wait for each other.
    placements_ended_.wait(ended);
  }
}

Status Memory::try_to_add(const Asked& asked, bool& another_first) {
  Placed placed(*this, asked.entries.size());
  Status status = place(asked, placed);
  another_first = placed.another_first;
  if (!status.ok()) return status;
  TE_RETURN_IF_ERROR(renew(placed.ambiguous));
  const ReaderLock barrier(barrier_);
  const Installed transports = transports_.installed();
  Keys keys(placed.buffers, transports);
  TE_RETURN_IF_ERROR(keys.register_all());
  keys.keep();
  placed.keep();
  return {};
}

Result<bool> Memory::count_again(const Asked& asked, size_t index, Placed& placed) {
  const BufferEntry& entry = asked.entries[index];
  Buffer* same = registry_.find_exact(reinterpret_cast<uint64_t>(entry.addr));
  if (same == nullptr || same->length != entry.length) return false;
  if (same->remote != asked.remote[index] ||
      same->location != location_of(asked.local[index], asked.location)) {
    return error(
        Code::kAlreadyExists,
        "{} bytes at {} are registered already, with location '{}' and {} for peers: ask for "
        "the same, or unregister them first",
        entry.length, entry.addr, same->location, rights_name(same->remote));
  }
  if (allocated_.contains(entry.addr)) {
    return error(Code::kAlreadyExists,
                 "the memory at {} was allocated by the engine, which has it registered already",
                 entry.addr);
  }
  if (same->closing()) {
    return error(Code::kAlreadyExists,
                 "the memory at {} is being unregistered: register it again after that",
                 entry.addr);
  }
  if (same->registering() && same->registrar != &placed) {
    placed.another_first = true;
    return Status(Code::kBusy, "another call registers it just now");
  }
  if (!same->registering()) placed.again.push_back(entry.addr);
  ++same->registrations;
  return true;
}

Status Memory::place(const Asked& asked, Placed& placed) {
  for (size_t i = 0; i < asked.entries.size();) {
    WriterLock lock(mutex_);
    for (const size_t end = std::min(i + kBuffersAtOnce, asked.entries.size()); i < end; ++i) {
      const BufferEntry& entry = asked.entries[i];
      const auto address = reinterpret_cast<uint64_t>(entry.addr);
      const Result<bool> counted = count_again(asked, i, placed);
      if (!counted.ok()) return counted.status();
      if (*counted) continue;
      const ClassifiedRange& found = asked.local[i];
      const Result<Buffer*> added =
          registry_.add(address, entry.length, std::string(location_of(found, asked.location)),
                        asked.remote[i], asked.own);
      if (!added.ok()) {
        return asked.entries.size() == 1 ? added.status()
                                         : added.status().with_context(fmt::format("buffer {}", i));
      }
      Buffer& buffer = **added;
      buffer.users.store(Buffer::kRegistering);
      buffer.registrar = &placed;
      buffer.local = found.rights;
      buffer.kind = found.driver->kind();
      buffer.device = found.device;
      buffer.memory_file = asked.memory_file;
      placed.buffers.push_back(&buffer);
      const std::vector<NumberRange> more =
          ambiguity_.add(address, entry.length, registry_.layout_end());
      placed.ambiguous.insert(placed.ambiguous.end(), more.begin(), more.end());
    }
  }
  return {};
}

template <typename Visit>
void Memory::for_each_ready(Visit&& visit) {
  uint64_t from = 0;
  for (bool more = true; more;) {
    ReaderLock lock(mutex_);
    Buffer* buffer = registry_.next_after(from);
    for (size_t i = 0; i < kBuffersAtOnce && buffer != nullptr; ++i) {
      from = buffer->address + buffer->length;
      if (buffer->ready()) visit(*buffer);
      buffer = registry_.next_after(from);
    }
    more = buffer != nullptr;
  }
}

template <typename Wanted>
Status Memory::renew_where(Wanted&& wanted) {
  const WriterLock barrier(barrier_);
  const Installed transports = transports_.installed();
  std::vector<Buffer*> known;
  for_each_ready([&](Buffer& buffer) {
    if (buffer.remote != Rights::kNone && wanted(buffer)) known.push_back(&buffer);
  });
  for (Buffer* buffer : known) TE_RETURN_IF_ERROR(renew_one(*buffer, transports));
  return {};
}

Status Memory::renew_keys() {
  return renew_where([](const Buffer&) { return true; });
}

Status Memory::renew(const std::vector<NumberRange>& numbers) {
  if (numbers.empty()) return {};
  std::vector<NumberRange> sorted = numbers;
  std::sort(sorted.begin(), sorted.end(),
            [](const NumberRange& a, const NumberRange& b) { return a.begin < b.begin; });
  return renew_where([&sorted](const Buffer& buffer) {
    return overlaps(sorted, buffer.offset, buffer.offset + buffer.length) ||
           overlaps(sorted, buffer.address, buffer.address + buffer.length);
  });
}

// Another buffer with new keys takes the place of this one, whose uses under way go on.
Status Memory::renew_one(Buffer& old, const Installed& transports) {
  auto fresh = std::make_unique<Buffer>();
  fresh->address = old.address;
  fresh->length = old.length;
  fresh->offset = old.offset;
  fresh->location = old.location;
  fresh->kind = old.kind;
  fresh->device = old.device;
  fresh->remote = old.remote;
  fresh->local = old.local;
  fresh->memory_file = old.memory_file;
  Buffer* const only = fresh.get();
  Keys keys({&only, 1}, transports);
  TE_RETURN_IF_ERROR(keys.register_all());
  {
    WriterLock lock(mutex_);
    if (!old.close()) return {};  // it is being unregistered
    only->registrations.store(old.registrations.load());
    only->replaced = registry_.replace(&old, std::move(fresh));
  }
  keys.keep();
  generation_.fetch_add(1);
  drop(old, transports, false);
  // An access under way began when the number had one reading; who unregisters waits for it.
  old.left_closing = !await_quiet(old, transports, now_ns()).ok();
  for (const std::shared_ptr<Transport>& transport : transports) {
    if (!transport->capabilities().registers_local_memory) continue;
    old.wait_until_unused();
    drop(old, transports, true);
    break;
  }
  // What is still in use waits here for the end of its uses; see remove_buffers().
  for (std::unique_ptr<Buffer>* link = &only->replaced; *link != nullptr;) {
    if ((*link)->unused() && !(*link)->left_closing) {
      *link = std::move((*link)->replaced);
    } else {
      link = &(*link)->replaced;
    }
  }
  return {};
}

Result<void*> Memory::allocate(size_t length, const AllocateOptions& options) try {
  const Result<std::optional<uint32_t>> node = parse_location(options.location, cpu_nodes_);
  if (!node.ok()) return node.status();
  if (length == 0) return Status(Code::kInvalidArgument, "the length of the memory is 0");
  TE_RETURN_IF_ERROR(check_access(options.access));
  if (options.huge_pages < HugePages::kNo || options.huge_pages > HugePages::kRequire) {
    return error(Code::kInvalidArgument, "huge_pages is {}: give one of HugePages",
                 static_cast<int32_t>(options.huge_pages));
  }
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
  const BufferEntry entry{file->data(), length};
  return keep_allocated(file.take(), {.entries = {&entry, 1},
                                      .location = options.location,
                                      .remote = {asked_rights(options.access)}});
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

Result<std::byte*> Memory::allocate_own(size_t length, Rights remote) try {
  Result<MemoryFile> file = MemoryFile::create("transfer-engine-staging", length);
  if (file.code() == Code::kUnsupported) file = MemoryFile::without_file(length);
  if (!file.ok()) return file.status();
  std::byte* const data = file->data();
  const BufferEntry entry{data, length};
  TE_RETURN_IF_ERROR(
      keep_allocated(file.take(),
                     {.entries = {&entry, 1}, .location = "*", .remote = {remote}, .own = true})
          .status());
  return data;
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

// Registers the file's memory, the one entry of `asked`.
Result<void*> Memory::keep_allocated(MemoryFile file, Asked asked) {
  asked.local = {{.driver = drivers_.back(), .rights = Rights::kBoth}};
  asked.memory_file = file.fd();
  void* const address = file.data();
  std::map<void*, MemoryFile> owner;  // moved as a node, which takes no memory
  owner.emplace(address, std::move(file));
  TE_RETURN_IF_ERROR(add_asked(asked));
  WriterLock lock(mutex_);
  allocated_.merge(owner);
  return address;
}

std::shared_ptr<const DeviceMemory> Memory::device_at(uint64_t address) {
  ReaderLock lock(mutex_);
  const Buffer* buffer = registry_.find(address);
  return buffer == nullptr ? nullptr : buffer->device;
}

const MemoryDriver* Memory::driver(MemoryKind kind) const {
  const auto found =
      std::find_if(drivers_.begin(), drivers_.end(),
                   [kind](const MemoryDriver* each) { return each->kind() == kind; });
  return found == drivers_.end() ? nullptr : *found;
}

Status Memory::free(void* addr) {
  Result<Taken> taken = take_allocated(addr);
  if (!taken.ok()) return taken.status();
  if (taken->in_use) {
    taken->file.bury();
  } else {
    taken->file.discard();
  }
  return {};
}

Result<size_t> Memory::release(void* addr) {
  Result<Taken> taken = take_allocated(addr);
  if (!taken.ok()) return taken.status();
  return taken->file.leave();
}

Result<Memory::Taken> Memory::take_allocated(void* addr) {
  size_t size = 0;
  {
    ReaderLock lock(mutex_);
    const auto known = allocated_.find(addr);
    if (known == allocated_.end()) {
      return error(Code::kNotFound,
                   "no memory at {} was allocated by this engine: give the address "
                   "that allocate returned",
                   addr);
    }
    size = known->second.size();
  }
  const Status status = remove_buffers({&addr, 1}, deadline_after_ms(now_ns(), kFreeWaitMs));
  if (!status.ok() && status.code() != Code::kBusy) return status;
  // Without the lock, since a driver takes its time.
  unpin(static_cast<std::byte*>(addr), size);
  const ReaderLock barrier(barrier_);
  const Installed transports = transports_.installed();
  WriterLock lock(mutex_);
  const auto found = allocated_.find(addr);
  if (found == allocated_.end()) return Taken();  // another call was quicker
  if (!status.ok()) {
    Buffer* buffer = registry_.find_exact(reinterpret_cast<uint64_t>(addr));
    if (buffer == nullptr || !buffer->left_closing) return status;
    log_info("{}; its memory is given back, and its addresses are kept", status.message());
    drop(*buffer, transports, true);
    registry_.remove(buffer);
    generation_.fetch_add(1);
  }
  Taken taken{std::move(found->second), !status.ok()};
  allocated_.erase(found);
  return taken;
}

// Keys of one transport for buffers that were ready before; unregistered unless they are kept.
class Memory::Introduced {
 public:
  Introduced(Memory& memory, Transport& transport) : memory_(memory), transport_(transport) {}
  ~Introduced() {
    for (size_t i = 0; i < count_; ++i) {
      transport_.unregister_memory(*buffers[i]);
      (void)transport_.await_quiet(*buffers[i], now_ns());
      WriterLock lock(memory_.mutex_);
      buffers[i]->keys.erase(buffers[i]->keys.find(transport_.name()));
    }
  }
  Introduced(const Introduced&) = delete;
  Introduced& operator=(const Introduced&) = delete;

  // The next buffer's.
  Status add() {
    Buffer& buffer = *buffers[count_];
    std::map<std::string, Bytes, std::less<>> one;  // moved as a node, which takes no memory
    one.try_emplace(std::string(transport_.name()));
    Result<Bytes> key = transport_.register_memory(buffer);
    if (!key.ok()) return key.status();
    one.begin()->second = key.take();
    WriterLock lock(memory_.mutex_);
    buffer.keys.merge(one);
    ++count_;
    return {};
  }
  void keep() { count_ = 0; }

  std::vector<Buffer*> buffers;

 private:
  Memory& memory_;
  Transport& transport_;
  size_t count_ = 0;
};

Status Memory::introduce(Transport& transport) try {
  Introduced introduced(*this, transport);
  const Capabilities capabilities = transport.capabilities();
  for_each_ready([&](Buffer& buffer) {
    if (takes(capabilities, buffer)) introduced.buffers.push_back(&buffer);
  });
  for (size_t i = 0; i < introduced.buffers.size(); ++i) TE_RETURN_IF_ERROR(introduced.add());
  introduced.keep();
  generation_.fetch_add(1);
  return {};
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

void Memory::forget(Transport& transport) {
  uint64_t from = 0;
  for (bool more = true; more;) {
    WriterLock lock(mutex_);
    Buffer* buffer = registry_.next_after(from);
    for (size_t i = 0; i < kBuffersAtOnce && buffer != nullptr; ++i) {
      from = buffer->address + buffer->length;
      if (const auto key = buffer->keys.find(transport.name()); key != buffer->keys.end()) {
        buffer->keys.erase(key);
      }
      buffer = registry_.next_after(from);
    }
    more = buffer != nullptr;
  }
  generation_.fetch_add(1);
}

}  // namespace te
