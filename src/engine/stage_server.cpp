#include "engine/stage_server.h"

#include <algorithm>
#include <tuple>

#include "base/clock.h"
#include "base/log.h"
#include "engine/device_copies.h"

namespace te {
namespace {

Status unknown_lease() {
  return Status(Code::kStale, "the target has no such lease of host memory any more");
}

// Of the buffer.
Rights taken_by(const stage::Copy& hello) {
  return hello.into_part ? Rights::kRead : Rights::kWrite;
}

Status refusal(Code code, const stage::Range& range) {
  return error(code, "{} bytes at {:#x} are not copied: {}", range.length, range.address,
               code == Code::kPermission ? "the buffer is not registered for that direction"
               : code == Code::kStale    ? "the key is not known"
                                         : "they leave the buffer");
}

}  // namespace

Capabilities StageServer::capabilities() const {
  return {.same_engine_only = true,  // it leads nowhere
          .reach = {.local = {}, .remote = MemoryKinds::all_but_host()},
          .checks_rights = true,
          .key_size = AccessKey::kSize};
}

Result<Bytes> StageServer::register_memory(const Buffer& buffer) {
  Bytes bytes(AccessKey::kSize, '\0');  // first, so that no key gets lost when memory is short
  const Result<AccessKey> key = table_.add(buffer.address, buffer.length, buffer.remote);
  if (!key.ok()) return key.status();
  key->encode(reinterpret_cast<std::byte*>(bytes.data()));
  return bytes;
}

void StageServer::unregister_memory(const Buffer& buffer) {
  const auto key = buffer.keys.find(stage::kName);
  if (key != buffer.keys.end()) table_.remove(AccessKey::decode(as_bytes(key->second).data()));
}

Result<Bytes> StageServer::accept(const Bytes& bytes, Rights rights) {
  const Result<stage::Hello> hello = stage::decode_hello(as_bytes(bytes));
  if (!hello.ok()) return hello.status();
  if (const auto* wanted = std::get_if<stage::Open>(&*hello)) return open(*wanted);
  if (const auto* wanted = std::get_if<stage::Copy>(&*hello)) {
    TE_RETURN_IF_ERROR(copy(*wanted, rights));
  } else {
    close(std::get<stage::Close>(*hello).lease);
  }
  return Bytes();
}

Result<std::shared_ptr<StageServer::Lease>> StageServer::find_or_add(const stage::Open& hello) {
  auto fresh = std::make_shared<Lease>(hello.parts);
  fresh->part_bytes = std::min(hello.part_bytes, config_.staging_part_bytes);
  fresh->used_ns.store(now_ns());
  for (;;) {
    {
      MutexLock lock(mutex_);
      if (const auto known = leases_.find(hello.lease); known != leases_.end()) {
        return known->second;
      }
      // Asked for a second time, over another connection.
      if (std::find(closed_.begin(), closed_.end(), hello.lease) != closed_.end()) {
        return unknown_lease();
      }
      if (leased_bytes_.load() + fresh->bytes() <= config_.staging_bytes) {
        leased_bytes_.fetch_add(fresh->bytes());
        leases_.emplace(hello.lease, fresh);
        return fresh;
      }
    }
    if (!end_an_idle_one(fresh->bytes())) {
      return error(Code::kBusy,
                   "all {} bytes of host memory for staging are in use (staging_bytes)",
                   config_.staging_bytes);
    }
  }
}

Result<Bytes> StageServer::open(const stage::Open& hello) {
  const Result<std::shared_ptr<Lease>> found = find_or_add(hello);
  if (!found.ok()) return found.status();
  const std::shared_ptr<Lease>& lease = *found;
  WriterLock lock(lease->mutex);
  if (lease->closed) return unknown_lease();
  if (lease->memory == nullptr) {
    const Result<std::byte*> memory = memory_.allocate_own(lease->bytes(), Rights::kBoth);
    if (!memory.ok()) return memory.status();
    lease->memory = *memory;
  }
  return stage::encode_answer({reinterpret_cast<uint64_t>(lease->memory), lease->part_bytes});
}

Status StageServer::copy(const stage::Copy& hello, Rights rights) {
  if (!contains(rights, taken_by(hello))) {
    return error(Code::kPermission, "{} bytes at {:#x} are not copied: tls_policy lets the peer {}",
                 hello.ranges[0].length, hello.ranges[0].address, rights_name(rights));
  }
  std::shared_ptr<Lease> lease;
  {
    MutexLock lock(mutex_);
    const auto found = leases_.find(hello.lease);
    if (found == leases_.end()) return unknown_lease();
    lease = found->second;
  }
  ReaderLock lock(lease->mutex);
  if (lease->memory == nullptr) return unknown_lease();
  uint64_t bytes = 0;
  for (const stage::Range& range : hello.ranges) bytes += range.length;
  if (hello.part >= lease->part.size() || bytes > lease->part_bytes) {
    return Status(Code::kProtocol, "the ranges do not fit into a part of the lease");
  }
  // One that comes a second time, over another connection, must not overwrite what came since.
  Part& part = lease->part[hello.part];
  MutexLock part_lock(part.mutex);
  if (hello.sequence == part.last_sequence) return part.last_result;
  if (hello.sequence < part.last_sequence) return unknown_lease();
  part.last_sequence = hello.sequence;
  part.last_result = copy_bytes(hello, *lease);
  lease->used_ns.store(now_ns());
  return part.last_result;
}

// With uses of the ranges' keys, until it ends.
class StageServer::Acquired {
 public:
  // Room first, so that no use gets lost when memory is short.
  Acquired(AccessTable& table, size_t most) : table_(table) { keys_.reserve(most); }
  ~Acquired() {
    for (const AccessKey& key : keys_) table_.release(key);
  }
  Acquired(const Acquired&) = delete;
  Acquired& operator=(const Acquired&) = delete;

  Status add(const stage::Range& range, Rights rights) {
    const Code code = table_.acquire(range.key, range.address, range.length, rights);
    if (code != Code::kOk) return refusal(code, range);
    keys_.push_back(range.key);
    return {};
  }

 private:
  AccessTable& table_;
  std::vector<AccessKey> keys_;
};

// Ranges of one buffer that follow each other are begun together.
Status StageServer::copy_bytes(const stage::Copy& hello, const Lease& lease) const {
  Acquired acquired(table_, hello.ranges.size());
  for (const stage::Range& range : hello.ranges) {
    TE_RETURN_IF_ERROR(acquired.add(range, taken_by(hello)));
  }
  std::byte* at = lease.memory + hello.part * lease.part_bytes;
  DeviceCopies copies;
  for (const stage::Range& range : hello.ranges) {
    const std::shared_ptr<const DeviceMemory> device = memory_.device_at(range.address);
    if (device == nullptr) return Status(Code::kStale, "the buffer is gone");
    auto* const there = reinterpret_cast<std::byte*>(range.address);
    copies.add(device, hello.into_part ? MemoryCopy{at, there, range.length}
                                       : MemoryCopy{there, at, range.length});
    at += range.length;
  }
  const MemoryKind kind = copies.device().kind();
  const std::shared_ptr<const void> pinned = copies.device().pin(lease.memory, lease.bytes());
  Status status = copies.start();
  const Status ended = copies.wait();
  if (status.ok()) status = ended;
  if (status.ok()) return {};
  return error(Code::kPermission, "the target cannot copy its {}: {}", kind_name(kind),
               status.message());
}

void StageServer::close(uint64_t id) {
  std::shared_ptr<Lease> lease;
  {
    MutexLock lock(mutex_);
    if (const auto found = leases_.find(id); found != leases_.end()) lease = found->second;
  }
  if (lease) end(id, *lease);
}

bool StageServer::end_an_idle_one(uint64_t bytes) {
  uint64_t id = 0;
  std::shared_ptr<Lease> idlest;
  {
    MutexLock lock(mutex_);
    auto found = leases_.end();
    for (auto each = leases_.begin(); each != leases_.end(); ++each) {
      if (found == leases_.end() || each->second->used_ns < found->second->used_ns) found = each;
    }
    const bool ends = bytes <= config_.staging_bytes && found != leases_.end() &&
                      now_ns() - found->second->used_ns.load() >= idle_ns_;
    if (!ends) return false;
    std::tie(id, idlest) = *found;
  }
  end(id, *idlest);
  return true;
}

// Waits for copies under way. Two may end the same lease.
void StageServer::end(uint64_t id, Lease& lease) {
  std::byte* memory = nullptr;
  {
    WriterLock lock(lease.mutex);
    if (std::exchange(lease.closed, true)) return;
    memory = std::exchange(lease.memory, nullptr);
  }
  {
    MutexLock lock(mutex_);
    leases_.erase(id);
    closed_.push_back(id);
    if (closed_.size() > kClosedKept) closed_.pop_front();
  }
  if (memory != nullptr) {
    if (const Status status = memory_.free(memory); !status.ok()) log_error("{}", status.message());
  }
  leased_bytes_.fetch_sub(lease.bytes());
}

}  // namespace te
