#include "transport/shm/path.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "base/guarded_copy.h"
#include "base/log.h"

namespace te::shm {
namespace {

// Ranges, end to end ones as one: the kernel takes each by itself.
struct Vector {
  std::array<iovec, CopyPool::kMaxRun> parts;
  size_t count = 0;

  void add(std::byte* begin, size_t length) {
    iovec* last = count == 0 ? nullptr : &parts[count - 1];
    if (last != nullptr && static_cast<std::byte*>(last->iov_base) + last->iov_len == begin) {
      last->iov_len += length;
    } else {
      parts[count++] = {begin, length};
    }
  }
};

}  // namespace

ShmPath::ShmPath(Transport& owner, std::string address, TransportHost& host, CopyPool& pool,
                 std::shared_ptr<Link> link, Warned& warned)
    : Path(owner, "", link->name(), std::move(address)),
      host_(host),
      pool_(pool),
      link_(std::move(link)),
      warned_(warned) {
  state.store(PathState::kReady);
  if (!link_->attach_allowed()) forbid_attach();
}

Status ShmPath::watch() {
  // Not called after close(), which the destructor calls.
  return link_->watch({.failed =
                           [this](const Status& why) {
                             set_error(why);
                             state.store(PathState::kFailed);
                             pool_.resume(*this);
                           },
                       .mapped = [this] { pool_.resume(*this); }});
}

bool ShmPath::reaches(const std::byte* key) const {
  if (over()) return false;
  const RangeKey range = RangeKey::decode(key);
  if (range.way == Way::kOpened || link_->attach_allowed()) return true;
  if (range.way == Way::kMapped && link_->may_map(range)) return true;
  if (warns_.load(std::memory_order_relaxed)) warn_of_unreached();
  return false;
}

// Between devices, and between host memory and devices where a driver here reaches both. For host
// memory here a device has to be in use already: to make a context takes much of a GPU's memory.
bool ShmPath::moves(MemoryKind local, const void*, MemoryKind remote, const std::byte* key) const {
  if (local == MemoryKind::kHost && remote == MemoryKind::kHost) return true;
  if (!reach.covers(local, remote) || key == nullptr || over()) return false;
  const RangeKey range = RangeKey::decode(key);
  if (remote == MemoryKind::kHost) return range.way == Way::kMapped && link_->may_map(range);
  if (range.way != Way::kOpened) return false;
  if (local == remote) return link_->may_open(range);
  return local == MemoryKind::kHost && link_->may_open(range, OpenBlocks::Local::kHost) &&
         host_.has_device(remote);
}

// Of pid namespaces once for each peer; a kernel that forbids it does so for all peers.
void ShmPath::warn_of_unreached() const {
  if (!warns_.exchange(false)) return;
  const std::string& peer = link_->pid() == 0 ? remote_address : std::string();
  if (!warned_.add(peer)) return;
  log_warning("shm: not used for some memory at {}: {}", remote_address, last_error().message());
}

void ShmPath::prepare(const std::byte* key, int64_t until_ns) {
  constexpr auto kPause = std::chrono::microseconds(20);
  const RangeKey range = RangeKey::decode(key);
  if (range.way != Way::kMapped) return;
  Link::Mapped mapped = link_->find_mapping(range, [] {});
  while (mapped.code == Code::kBusy && now_ns() < until_ns) {
    std::this_thread::sleep_for(kPause);
    mapped = link_->find_mapping(range, [] {});
  }
  if (mapped.memory == nullptr) return;
  constexpr size_t kStep = 64 << 20;
  for (size_t at = 0; at < mapped.memory->size() && now_ns() < until_ns; at += kStep) {
    mapped.memory->populate(at, std::min(kStep, mapped.memory->size() - at));
  }
}

void ShmPath::copy(Slice* run, CopyWay way) {
  TransportHost& host = host_;  // the last slice that comes back may take the path along
  while (run != nullptr) {
    std::array<Part, CopyPool::kMaxRun> ended, across, on_devices;
    size_t ended_count = 0, across_count = 0, device_count = 0;
    {
      HazardHold hold(link_->hazards(), used_slots_);
      DeviceSlices device_copies(host_, *link_);
      std::array<Part, CopyPool::kMaxRun> parts;
      size_t count = 0;
      for (; run != nullptr && count < parts.size(); run = run->next) {
        const RangeKey key = RangeKey::decode(run->key);
        if (!hold.name(key.index)) break;
        parts[count++] = {run, Code::kOk, key, nullptr};
      }
      HazardHold::publish();
      const bool alive = link_->alive();
      if (!alive) lost();
      for (Part& part : Parts(parts.data(), count)) {
        if (!alive) part.code = Code::kUnavailable;
        if (part.code == Code::kOk) check(part);
        const bool on_device = is_on_device(part);
        const bool is_mapped = !on_device && part.code == Code::kOk && part.key.way == Way::kMapped;
        if (on_device && !add_device_copy(part, device_copies)) continue;
        if (is_mapped && !copy_mapped(part, way)) continue;
        if (on_device && part.code == Code::kOk) {
          on_devices[device_count++] = part;
          continue;
        }
        const bool goes_across = part.code == Code::kOk && part.key.way == Way::kAcross;
        (goes_across ? across[across_count++] : ended[ended_count++]) = part;
      }
      copy_across({across.data(), across_count});
      copy_on_devices(device_copies, {on_devices.data(), device_count});
    }
    for (const Part& part : Parts(on_devices.data(), device_count)) {
      host.done(part.slice, part.code);
    }
    for (const Part& part : Parts(ended.data(), ended_count)) host.done(part.slice, part.code);
    for (const Part& part : Parts(across.data(), across_count)) host.done(part.slice, part.code);
  }
}

void ShmPath::check(Part& part) const {
  const Slice& slice = *part.slice;
  if (slice.cancelled()) {
    part.code = Code::kCancelled;
    return;
  }
  part.range = link_->ranges().find(part.key);
  if (part.range == nullptr) {
    part.code = Code::kStale;
  } else if (slice.remote_address < part.range->address || slice.length > part.range->length ||
             slice.remote_address - part.range->address > part.range->length - slice.length) {
    part.code = Code::kOutOfRange;
  } else if ((part.range->rights & static_cast<uint64_t>(target_rights(slice.opcode))) == 0) {
    part.code = Code::kPermission;
  }
}

bool ShmPath::find_file(Part& part, std::shared_ptr<const Mapping>& memory) {
  Slice* slice = part.slice;
  Link::Mapped mapped = link_->find_mapping(part.key, [this, slice] {
    slice->next = nullptr;
    pool_.park(slice);
  });
  if (mapped.code == Code::kBusy) return false;
  if (mapped.code == Code::kStale) {
    part.code = Code::kStale;
    return true;
  }
  memory = std::move(mapped.memory);
  if (memory == nullptr) return true;
  const uint64_t offset = slice->remote_address - part.range->address;
  if (offset + slice->length > memory->size()) part.code = Code::kOutOfRange;
  return true;
}

// A range whose file cannot be mapped is copied across memory, if that is allowed.
bool ShmPath::copy_mapped(Part& part, CopyWay way) {
  std::shared_ptr<const Mapping> memory;
  if (!find_file(part, memory)) return false;
  if (part.code != Code::kOk) return true;
  if (memory == nullptr) {
    part.key.way = Way::kAcross;
    if (!link_->attach_allowed()) part.code = Code::kUnavailable;
    return true;
  }
  const uint64_t offset = part.slice->remote_address - part.range->address;
  part.code = copy_slice(*part.slice, memory->data() + offset, way);
  return true;
}

bool ShmPath::is_on_device(const Part& part) {
  if (part.code != Code::kOk) return false;
  const bool local = part.slice->task->kind != MemoryKind::kHost;
  return part.key.way == Way::kOpened || (part.key.way == Way::kMapped && local);
}

Status ShmPath::add_mapped_copy(const Part& part, std::shared_ptr<const Mapping> memory,
                                DeviceSlices& copies) const {
  if (memory == nullptr) {
    return error(Code::kUnavailable,
                 "memory of {} at {:#x} is staged in host memory: it cannot be mapped",
                 remote_device, part.slice->remote_address);
  }
  const uint64_t offset = part.slice->remote_address - part.range->address;
  return copies.add_mapped(*part.slice, std::move(memory), offset);
}

bool ShmPath::add_device_copy(Part& part, DeviceSlices& copies) {
  Slice* slice = part.slice;
  Status status;
  if (part.key.way == Way::kMapped) {
    std::shared_ptr<const Mapping> memory;
    if (!find_file(part, memory)) return false;
    if (part.code != Code::kOk) return true;
    status = add_mapped_copy(part, std::move(memory), copies);
  } else {
    status = copies.add(*slice, part.key, [this, slice] {
      slice->next = nullptr;
      pool_.park(slice);
    });
  }
  if (status.code() == Code::kBusy) return false;
  part.code = status.code();
  if (!status.ok()) set_error(status);
  return true;
}

void ShmPath::copy_on_devices(DeviceSlices& copies, Parts parts) {
  if (parts.empty()) return;
  const std::vector<Status> ends = copies.run();
  for (size_t i = 0; i < parts.size(); ++i) {
    if (ends[i].ok()) continue;
    parts[i].code = Code::kInvalidArgument;
    set_error(ends[i]);
  }
}

// Copies slices of one direction in one system call; `*done` of them are whole. kUnsupported: the
// kernel does not let us.
Code ShmPath::across(Opcode opcode, Slice* const* slices, size_t count, size_t* done) const {
  Vector local, remote;
  for (size_t i = 0; i < count; ++i) {
    local.add(slices[i]->local, slices[i]->length);
    remote.add(reinterpret_cast<std::byte*>(slices[i]->remote_address), slices[i]->length);
  }
  const auto call = opcode == Opcode::kWrite ? ::process_vm_writev : ::process_vm_readv;
  const ssize_t got =
      call(link_->pid(), local.parts.data(), local.count, remote.parts.data(), remote.count, 0);
  const int why = got < 0 ? errno : EFAULT;
  *done = 0;
  for (uint64_t rest = got < 0 ? 0 : static_cast<uint64_t>(got); *done < count; ++*done) {
    if (rest < slices[*done]->length) break;
    rest -= slices[*done]->length;
  }
  if (*done == count) return Code::kOk;
  if (why == EFAULT) return count == 1 ? fault(*slices[0]) : Code::kInvalidArgument;
  if (why == ENOMEM) return Code::kResource;
  return why == ESRCH ? Code::kUnavailable : Code::kUnsupported;
}

// The slices that one call could not do are tried alone, so that each gets its own answer.
void ShmPath::copy_across(Parts parts) {
  std::array<Slice*, CopyPool::kMaxRun> slices;
  for (size_t i = 0; i < parts.size(); ++i) slices[i] = parts[i].slice;
  size_t at = 0, count = parts.size();
  while (at < parts.size()) {
    size_t done = 0;
    const Code code = across(slices[at]->opcode, &slices[at], count, &done);
    at += done;
    if (code == Code::kUnsupported || code == Code::kUnavailable) {
      if (code == Code::kUnsupported) forbid_attach();
      if (code == Code::kUnavailable) lost();
      for (; at < parts.size(); ++at) parts[at].code = Code::kUnavailable;
    } else if (code != Code::kOk && count == 1) {
      parts[at++].code = code;
      count = parts.size() - at;
    } else if (code != Code::kOk) {
      count = 1;
    } else {
      count = parts.size() - at;
    }
  }
}

// Whose memory cannot be touched, after a call for one slice failed.
Code ShmPath::fault(const Slice& slice) const {
  const bool local = slice.opcode == Opcode::kWrite ? !is_readable(slice.local, slice.length)
                                                    : !is_writable(slice.local, slice.length);
  return local ? Code::kInvalidArgument : Code::kPermission;
}

void ShmPath::forbid_attach() {
  set_error(link_->pid() == 0
                ? error(Code::kPermission,
                        "{} cannot be reached but for memory that the engine allocated: let both "
                        "share a pid namespace (docker run --pid, hostPID)",
                        remote_device)
                : error(Code::kPermission, "the kernel forbids touching the memory of {}",
                        remote_device));
  link_->forbid_attach();
}

// The link will say so too, but what is planned anew meanwhile must not go this way again.
void ShmPath::lost() {
  set_error(error(Code::kUnavailable, "{} is gone", remote_device));
  state.store(PathState::kFailed);
}

}  // namespace te::shm
